"""How tests are chosen and run, and what each gets: every event loop in turn, a watch on leaks."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import re
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import settings

# How long an example takes says nothing on a busy machine, or under sanitizers.
settings.register_profile("usual", deadline=None, max_examples=30)
settings.register_profile("deep", deadline=None, max_examples=100)


def examples(deep: int) -> int:
    """How many a property gets that has so many of them with --deep."""
    return deep * settings().max_examples // 100


LEFT_OUT = pytest.StashKey[int]()  # deep tests
CRASHED = pytest.StashKey[bool]()  # one of xdist's workers


def shown(value: object) -> str:
    """Its repr without its address: each of xdist's workers has to give a test the same name."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--deep", action="store_true", help="all tests, with all examples: those marked deep too"
    )


@pytest.hookimpl(tryfirst=True)  # before xdist's
def pytest_cmdline_main(config: pytest.Config) -> None:
    """The whole suite runs on every core, files that are named in one process."""
    if hasattr(config, "workerinput"):  # this is one of its workers
        return
    named = config.args_source is pytest.Config.ArgsSource.ARGS
    if config.pluginmanager.hasplugin("xdist") and not named:
        option = config.option
        if option.numprocesses is None:
            option.numprocesses = "logical"
        if option.dist == "no":
            option.dist = "worksteal"
        if option.maxworkerrestart is None:
            option.maxworkerrestart = "0"  # a crash ends the run


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, as tests wait too; the variable is xdist's own."""
    given = os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS")
    return int(given) if given is not None else (os.cpu_count() or 1) + 1


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("deep" if config.getoption("--deep") else "usual")
    config.stash[LEFT_OUT] = 0
    config.stash[CRASHED] = False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--deep") or any("::" in each for each in config.args):
        return
    deep = [item for item in items if _is_deep(item)]
    if deep:
        items[:] = [item for item in items if not _is_deep(item)]
        config.hook.pytest_deselected(items=deep)
        config.stash[LEFT_OUT] = len(deep)


def _is_deep(item: pytest.Item) -> bool:
    """Whether its mark means all cases, or this one by a part of its name."""
    mark = item.get_closest_marker("deep")
    if mark is None:
        return False
    case = item.name.partition("[")[2].rstrip("]").split("-")
    return not mark.args or not set(mark.args).isdisjoint(case)


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left out"] = session.config.stash[LEFT_OUT]
    elif session.config.stash[CRASHED]:
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR  # not only a test that failed


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """One of xdist's workers has ended."""
    if error is not None:
        node.config.stash[CRASHED] = True
    else:
        node.config.stash[LEFT_OUT] = node.workeroutput["left out"]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.stash[LEFT_OUT]:
        terminalreporter.write_line(
            f"{config.stash[LEFT_OUT]:,} deep tests were left out: --deep runs them too"
        )


class TransportsOnlyLoop(asyncio.SelectorEventLoop):
    """A loop like Windows' proactor: it has transports, but no `add_reader`."""

    def add_reader(self, *_: object) -> None:
        raise NotImplementedError

    def remove_reader(self, *_: object) -> bool:
        raise NotImplementedError

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        """asyncio's own loses its client if it is cancelled when it has accepted one."""
        while True:
            try:
                accepted, address = sock.accept()
            except BlockingIOError:
                ready = self.create_future()
                self._add_reader(sock, lambda ready=ready: ready.done() or ready.set_result(None))  # type: ignore[attr-defined]
                try:
                    await ready
                finally:
                    self._remove_reader(sock)  # type: ignore[attr-defined]
            else:
                accepted.setblocking(False)
                return accepted, address

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
