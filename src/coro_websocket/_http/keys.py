"""The key of an opening handshake, and what answers it (RFC 6455 section 1.3)."""

from __future__ import annotations

import base64
import hashlib
import secrets

__all__ = ["accept_key", "new_key"]

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def new_key() -> str:
    """A fresh `Sec-WebSocket-Key`: 16 bytes from the system's random source, in base64.

    RFC 6455 section 4.1, item 7 of the client's requirements.
    """
    return base64.b64encode(secrets.token_bytes(16)).decode("ascii")


def accept_key(key: str) -> str:
    """The `Sec-WebSocket-Accept` that answers `key` (RFC 6455 section 4.2.2, item 5.4)."""
    digest = hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode("ascii")
