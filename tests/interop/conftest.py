"""Each test of a pairing meets every peer, as server and as client; some at every place too."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from tests.conftest import Certificates

from .peer_aiohttp import Aiohttp
from .peer_websockets import WebSockets
from .peer_ws import NODE, Ws
from .peers import BOUND, Pairing, Peer, Place

START = 120.0  # seconds for npm to install, or a browser to start, within a test's own time
PEERS: dict[str, Peer] = {peer.name: peer for peer in (WebSockets(), Aiohttp(), Ws())}


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    """A loop that never yields ends its test, where asyncio.timeout cannot."""

    def bark(*_: object) -> None:
        raise AssertionError("the test took too long, perhaps without yielding to the event loop")

    before = signal.signal(signal.SIGALRM, bark)
    signal.setitimer(signal.ITIMER_REAL, 2 * BOUND + START)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=list(PEERS))
def peer(request: pytest.FixtureRequest) -> Peer:
    """Each peer in turn, or those that a test names by `indirect`."""
    if request.param == "ws":
        request.getfixturevalue("node_modules")
    return PEERS[request.param]


@pytest.fixture
def place(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Place]:
    """Where to listen: on TCP, or at the places that a test names by `indirect`."""
    kind = getattr(request, "param", "tcp")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "socket") if "unix" in kind else None
        yield Place(certificates, "tls" in kind, path)


@pytest.fixture(params=["we connect", "we serve"])
def pairing(request: pytest.FixtureRequest, peer: Peer, place: Place) -> Pairing:
    """Us and a peer, in both roles."""
    return Pairing(peer, request.param == "we serve", place)


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The npm package ws, of the version that package.json says, installed if it is not there."""
    folder = NODE / "node_modules"
    wanted = json.loads((NODE / "package.json").read_text())["dependencies"]["ws"]
    installed = folder / "ws" / "package.json"
    if shutil.which("node") is None:
        missing("Node.js is not installed")
    with open(NODE / "package.json") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another of xdist's workers may be about to
        if not installed.exists() or json.loads(installed.read_text())["version"] != wanted:
            npm = shutil.which("npm")
            if npm is None:
                missing("npm is not installed")
            done = subprocess.run(
                [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
                cwd=NODE,
                capture_output=True,
                text=True,
                timeout=START,
            )
            if done.returncode != 0:
                missing(f"npm could not install the package ws: {done.stderr.strip()}")
    return folder


def missing(reason: str) -> NoReturn:
    """Skip what needs a program that is not here, but not where nobody would notice."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI is set")
    pytest.skip(reason)
