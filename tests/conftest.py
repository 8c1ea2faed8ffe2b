"""What every test of connections gets: each event loop in turn, and a watch on leaks."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from hypothesis import settings

# How long an example takes says nothing on a busy machine, or under sanitizers.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


class TransportsOnlyLoop(asyncio.SelectorEventLoop):
    """A loop like Windows' proactor: it has transports, but no `add_reader`."""

    def add_reader(self, *_: object) -> None:
        raise NotImplementedError

    def remove_reader(self, *_: object) -> bool:
        raise NotImplementedError

    def _sock_read_done(
        self, fd: int, _future: object, handle: asyncio.Handle | None = None
    ) -> None:
        """asyncio's own calls remove_reader, which there is not."""
        if handle is None or not handle.cancelled():
            self._remove_reader(fd)  # type: ignore[attr-defined]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "asyncio": asyncio.SelectorEventLoop,
        "transports": TransportsOnlyLoop,
    }
    if sys.platform != "win32":
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories


@pytest.fixture(autouse=True, scope="session")
def no_proxies_of_the_environment() -> None:
    """The tests' hosts are this machine, whatever proxy it uses for others."""
    for name in [each for each in os.environ if each.lower().endswith("_proxy")]:
        del os.environ[name]


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # what is there now stays: no test's collection need look at it


@pytest.fixture(autouse=True)
def no_descriptors_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a descriptor open, nor an object that warns when it is collected."""
    of_contract = hasattr(request.function, "contract")  # which runs a loop of its own
    if not inspect.iscoroutinefunction(request.function) and not of_contract:
        yield
        return
    before = _descriptors()
    yield
    gc.collect()
    gc.freeze()  # what pytest keeps of each test would make every collection a longer one
    deadline = time.monotonic() + 2  # a thread or the kernel may be about to close it
    while (left := _descriptors() - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left == set()


def _descriptors() -> set[str]:
    """The open sockets, by their inode; a loop may keep pipes of its own."""
    found = set()
    folder = "/proc/self/fd"
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        try:
            target = os.readlink(f"{folder}/{name}")
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


@pytest.fixture
async def no_tasks_left() -> AsyncIterator[None]:
    """No test leaves a task behind."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left


@dataclass
class Certificates:
    """A certificate for localhost and 127.0.0.1, and the authority that signed it."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    ca: str
    cert: str
    key: str
    cert_path: str
    key_path: str
    ca_path: str


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder: Path = tmp_path_factory.mktemp("certificates")
    ca = trustme.CA()
    issued = ca.issue_cert("localhost", "127.0.0.1", "::1")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issued.configure_cert(server)
    client = ssl.create_default_context()
    ca.configure_trust(client)
    cert = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    ca.cert_pem.write_to_path(folder / "ca.pem")
    (folder / "cert.pem").write_bytes(cert)
    issued.private_key_pem.write_to_path(folder / "key.pem")
    return Certificates(
        server,
        client,
        ca.cert_pem.bytes().decode(),
        cert.decode(),
        issued.private_key_pem.bytes().decode(),
        str(folder / "cert.pem"),
        str(folder / "key.pem"),
        str(folder / "ca.pem"),
    )
