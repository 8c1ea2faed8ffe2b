"""Loops that are run within a task that a read() has resumed, as notebooks and facades do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import Certificates

PROGRAM = ("-X", "faulthandler", "-m", "tests.helpers.nested_loops")


@pytest.mark.deep("transports")
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("connections", ["1", "8"], ids=["alone", "with others"])
@pytest.mark.parametrize("loop", ["asyncio", "transports"])
def test_a_nested_loop_serves_every_connection(
    loop: str, connections: str, secure: bool, certificates: Certificates
):
    files = [certificates.ca_path, certificates.cert_path, certificates.key_path]
    played = subprocess.run(
        [sys.executable, *PROGRAM, loop, connections, *(files * secure)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=240,
        check=False,
    )
    assert (played.returncode, played.stdout[-4000:].decode()) == (0, "")
