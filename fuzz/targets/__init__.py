"""The targets by name: each takes an input and raises if what it finds breaks a rule.

They need nothing but the library and `tests/helpers/reference_frames.py`: no fuzzer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # tests.helpers, the reference decoder

from . import (
    client_handshake,
    codec,
    engine,
    extensions,
    forwarded,
    pieces,
    proxy,
    proxy_protocol,
    receiving,
    sending,
    server_handshake,
    usual_heads,
)

__all__ = ["TARGETS"]

TARGETS: dict[str, Callable[[bytes], None]] = {
    "engine": engine.run,
    "receiving": receiving.run,
    "pieces": pieces.run,
    "sending": sending.run,
    "codec": codec.run,
    "client_handshake": client_handshake.run,
    "server_handshake": server_handshake.run,
    "usual_heads": usual_heads.run,
    "extensions": extensions.run,
    "proxy": proxy.run,
    "proxy_protocol": proxy_protocol.run,
    "forwarded": forwarded.run,
}
