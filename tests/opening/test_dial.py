"""How the address to connect to is found, and connected to."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import threading
from typing import Any

import pytest
from tests.conftest import pytest_asyncio_loop_factories
from tests.helpers.raw_peer import BOUND, echo, until, watchdog

from coro_websocket import (
    ConnectError,
    ConnectTimeout,
    InvalidOption,
    InvalidOptionType,
    Options,
    connect,
    serve,
)
from coro_websocket._opening import resolve as _resolve
from coro_websocket._runtimes import lookup as _lookup
from coro_websocket.testing import FakeServer

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")


async def hello(peer):
    await peer.send("hello")
    await peer.close()


def port_of(server) -> int:
    return int(server.url.rpartition(":")[2].rstrip("/"))


def resolving(*addresses: Any) -> Any:
    """A resolver that always gives these, and keeps what it was asked for."""

    async def resolver(host):
        asking.asked.append(host)
        return addresses

    asking: Any = resolver
    asking.asked = []
    return asking


@contextlib.contextmanager
def unanswered(port=0):
    """An address of 127/8 and a port whose backlog is full: connecting to it hangs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.2", port))
        listener.listen(0)
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    filler.connect(listener.getsockname())
            yield listener.getsockname()


async def test_a_resolver_of_ones_own():
    resolver = resolving("127.0.0.1")
    async with FakeServer(hello) as server:
        url = f"ws://chat.test:{port_of(server)}/"
        async with connect(url, resolver=resolver) as (_, read, _):
            assert (await read()).payload == "hello"
        assert resolver.asked == ["chat.test"]
        assert server.requests[0].host == f"chat.test:{port_of(server)}"


async def test_what_a_resolver_gives_is_checked():
    for wrong in ("localhost", 7, "::1%"):
        with pytest.raises(ConnectError, match="must give IP addresses") as caught:
            await connect("ws://chat.test/", resolver=resolving(wrong))
        assert caught.value.phase == "resolve"
    with pytest.raises(ConnectError, match="no address"):
        await connect("ws://chat.test/", resolver=resolving())

    async def fails(host):
        raise OSError("the zone is gone")

    with pytest.raises(ConnectError, match=r"cannot resolve the host chat\.test: the zone is gone"):
        await connect("ws://chat.test/", resolver=fails)
    with pytest.raises(ConnectError, match=r"the host chat\.test has no address$"):
        await connect("ws://chat.test/", resolver=resolving())


@pytest.mark.parametrize("error", [ValueError("boom"), KeyError("x"), TimeoutError("late")])
async def test_whatever_a_resolver_raises_is_a_connect_error(error):
    async def fails(host):
        raise error

    with pytest.raises(ConnectError, match=r"cannot resolve the host chat\.test: ") as caught:
        await connect("ws://chat.test/", resolver=fails)
    assert caught.value.phase == "resolve"
    assert caught.value.__cause__ is error


async def test_a_resolver_that_gives_no_list_is_said_to():
    async def nothing(host):
        return None

    async def text(host):
        return "127.0.0.1"

    for resolver, what in (
        (nothing, "resolver must give a list of IP addresses, not NoneType"),
        (text, "resolver must give a list of IP addresses, not str"),
        (lambda host: ["127.0.0.1"], "resolver must give an awaitable of a list .*, not list"),
    ):
        with pytest.raises(InvalidOptionType, match=what) as caught:
            await connect("ws://chat.test/", resolver=resolver)  # type: ignore[arg-type]
        assert caught.value.option == "resolver"


@pytest.fixture
def hanging(monkeypatch):
    """Look-ups of the system hang until the event is set; `began` counts them."""
    answered = threading.Event()
    began = []

    def getaddrinfo(host, port, *_, **__):
        began.append(host)
        answered.wait(2 * BOUND)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield answered, began
    answered.set()
    for thread in threading.enumerate():
        if thread.name == "look-up of a host":
            thread.join(BOUND)
            assert not thread.is_alive()


async def connect_in_time():
    with pytest.raises(ConnectTimeout) as caught:
        await connect("ws://slow.test/", timeout=0.5)
    assert caught.value.phase == "resolve"


async def serve_in_time():
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await serve(echo, "slow.test")


@pytest.mark.parametrize("new_loop", pytest_asyncio_loop_factories().values())
@pytest.mark.parametrize("program", [connect_in_time, serve_in_time])
def test_a_look_up_that_hangs_does_not_hold_up_the_end_of_the_program(
    program, hanging, caplog, new_loop
):
    answered, began = hanging

    def run():
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(program())
        ended.append(program)

    ended: list[Any] = []
    running = threading.Thread(target=run, daemon=True)
    running.start()
    running.join(BOUND)
    assert not running.is_alive()
    assert ended
    assert began == ["slow.test"]
    answered.set()  # the answer comes to a loop that is closed
    assert caplog.text == ""


async def test_look_ups_that_hang_leave_the_executor_free_and_their_number_is_bounded(hanging):
    answered, began = hanging
    opening = [asyncio.create_task(connect(f"ws://{n}.test:1/")) for n in range(40)]
    await until(lambda: len(began) == _lookup.MOST)
    assert await asyncio.get_running_loop().run_in_executor(None, lambda: "free") == "free"
    for task in opening[:35]:
        task.cancel()
    await asyncio.wait(opening[:35])
    assert len(began) == _lookup.MOST
    answered.set()
    await asyncio.wait(opening)  # those that waited have their turn, but for those that left
    assert set(began[_lookup.MOST :]) == {f"{n}.test" for n in range(35, 40)}
    assert all(task.exception().phase == "connect" for task in opening[35:])  # type: ignore[attr-defined]


async def test_a_system_without_more_threads_cannot_resolve(monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    for _ in range(2):
        with pytest.raises(ConnectError, match=r"cannot resolve .* some\.test: can't start"):
            await connect("ws://some.test/")


async def test_an_address_is_not_asked_for():
    resolver = resolving("127.0.0.9")
    async with FakeServer(hello) as server:
        async with connect(server.url, resolver=resolver):
            pass
        assert resolver.asked == []


async def test_the_next_address_is_tried_at_once_where_one_refuses():
    # The server first: 127.0.0.1 is where every client's port is taken.
    async with serve(lambda *_: asyncio.sleep(0), "127.0.0.1") as server:
        with socket.socket() as bound:
            bound.bind(("127.0.0.3", server.port))  # and refuses, as it does not listen
            resolver = resolving("127.0.0.3", "127.0.0.1")
            async with connect(f"ws://chat.test:{server.port}/", resolver=resolver) as (res, _, _):
                assert res.socket.getpeername()[0] == "127.0.0.1"


async def test_an_address_that_does_not_answer_is_not_waited_for():
    """RFC 8305 section 5."""
    async with serve(lambda *_: asyncio.sleep(0), "127.0.0.1") as server:
        with unanswered(server.port):
            resolver = resolving("127.0.0.2", "127.0.0.1")
            url = f"ws://chat.test:{server.port}/"
            async with connect(url, resolver=resolver) as (res, _, _):
                assert res.socket.getpeername()[0] == "127.0.0.1"


async def test_every_address_that_fails_is_in_the_error():
    with socket.socket() as bound:
        bound.bind(("127.0.0.3", 0))
        port = bound.getsockname()[1]
        resolver = resolving("127.0.0.3", "127.0.0.4")
        with pytest.raises(ConnectError, match=r"127\.0\.0\.3: .*127\.0\.0\.4: ") as caught:
            await connect(f"ws://chat.test:{port}/", resolver=resolver)
        assert caught.value.__cause__.errno == errno.ECONNREFUSED  # type: ignore[attr-defined]


def test_families_take_turns_the_preferred_first():
    def of(*families):
        return [(family, 1, 6, (str(i), 80)) for i, family in enumerate(families)]

    v4, v6 = socket.AF_INET, socket.AF_INET6
    order = [each[3][0] for each in _resolve._interleaved(of(v6, v6, v6, v4, v4))]
    assert order == ["0", "3", "1", "4", "2"]
    assert [each[3][0] for each in _resolve._interleaved(of(v4, v4, v6))] == ["0", "2", "1"]


async def test_family_chooses_among_the_addresses():
    async with FakeServer(hello) as server:
        url = f"ws://chat.test:{port_of(server)}/"
        resolver = resolving("::1", "127.0.0.1")
        async with connect(url, resolver=resolver, family=socket.AF_INET) as (res, _, _):
            assert res.socket.family == socket.AF_INET
        with pytest.raises(ConnectError, match="no address that family"):
            await connect(url, resolver=resolving("127.0.0.1"), family=socket.AF_INET6)


async def test_local_addr_is_where_it_connects_from():
    async with FakeServer(hello) as server:
        async with connect(server.url, local_addr="127.0.0.5") as (res, _, _):
            assert res.socket.getsockname()[0] == "127.0.0.5"
        async with connect(server.url, local_addr=("127.0.0.6", 0)) as (res, _, _):
            assert res.socket.getsockname()[0] == "127.0.0.6"
        with pytest.raises(ConnectError, match="cannot connect"):
            await connect(server.url, local_addr="192.0.2.1")  # none of ours


async def test_a_socket_of_ones_own(certificates):
    async def handler(req, read, write):
        await write("secure")

    async with FakeServer(hello) as server:
        mine = socket.create_connection(("127.0.0.1", port_of(server)))
        local = mine.getsockname()
        async with connect("ws://chat.test/path", sock=mine) as (res, read, _):
            assert (await read()).payload == "hello"
            assert res.socket.getsockname() == local
        assert server.requests[0].host == "chat.test"
        assert mine.fileno() < 0  # it belonged to the connection
    async with serve(handler, tls=certificates.server) as secure:
        mine = socket.create_connection(("127.0.0.1", secure.port))
        url = "wss://localhost/"
        async with connect(url, sock=mine, tls=certificates.client) as (_, read, _):
            assert (await read()).payload == "secure"


async def test_a_pair_of_sockets():
    mine, other = socket.socketpair()
    async with serve(lambda *_: asyncio.sleep(0)) as server:
        link = socket.create_connection(("127.0.0.1", server.port))
        for sock in (other, link):
            sock.setblocking(False)
        loop = asyncio.get_running_loop()

        async def pump(source, target):
            with contextlib.suppress(OSError):
                while data := await loop.sock_recv(source, 65536):
                    await loop.sock_sendall(target, data)
                target.shutdown(socket.SHUT_WR)

        pumps = [asyncio.create_task(pump(other, link)), asyncio.create_task(pump(link, other))]
        async with connect("ws://chat.test/", sock=mine) as (_, read, _):
            assert await read() is None
        await asyncio.wait(pumps)
        other.close()
        link.close()


@pytest.mark.parametrize("phase", ["resolve", "connect", "tls", "handshake"])
async def test_each_phase_has_a_deadline_of_its_own(phase, certificates):
    started = asyncio.Event()

    async def never(host):
        started.set()
        await asyncio.Event().wait()

    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {f"{phase}_timeout": 0.05}
        if phase == "resolve":
            url = "ws://chat.test/"
            options["resolver"] = never
        elif phase == "connect":
            url = "ws://{}:{}/".format(*stack.enter_context(unanswered()))
        else:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            scheme = "wss" if phase == "tls" else "ws"
            url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(ConnectTimeout, match=f"{phase}_timeout") as caught:
            await connect(url, **options)
    assert caught.value.phase == phase
    assert "0.05 s" in str(caught.value)
    assert isinstance(caught.value, TimeoutError)


async def test_cancelled_while_several_addresses_are_tried_nothing_is_left():
    with unanswered() as (_, port):
        resolver = resolving("127.0.0.2", "127.0.0.2", "127.0.0.2")
        connecting = asyncio.create_task(connect(f"ws://chat.test:{port}/", resolver=resolver))
        await asyncio.sleep(0.3)  # the second attempt has begun
        connecting.cancel()
        await asyncio.wait([connecting])
        assert connecting.cancelled()


async def test_origin_and_user_agent():
    async with FakeServer(hello) as server:
        async with connect(server.url, origin="https://app.test", user_agent="mine/1"):
            pass
        async with connect(server.url, user_agent=None):
            pass
        async with connect(server.url, origin="https://x", headers={"Origin": "https://mine"}):
            pass
        first, second, third = server.requests
        assert (first.origin, first["User-Agent"]) == ("https://app.test", "mine/1")
        assert (second.origin, second.get("User-Agent")) == (None, None)
        assert third.get_all("Origin") == ["https://mine"]
        assert third["User-Agent"].startswith("coro-websocket/")


def test_the_options_are_checked():
    assert Options(family=socket.AF_INET6).family == socket.AF_INET6
    assert Options(local_addr="::1").local_addr == ("::1", 0)
    for wrong in ({"family": 99}, {"local_addr": "localhost"}, {"local_addr": ("::1", 99999)}):
        with pytest.raises(InvalidOption):
            Options(**wrong)
    for wrong in (  # type: ignore[assignment]
        {"local_addr": 7},
        {"local_addr": ("::1", "80")},
        {"sock": 7},
        {"resolver": "dns"},
        {"origin": 7},
        {"user_agent": b"x"},
        {"max_redirects": "3"},
    ):
        with pytest.raises(InvalidOptionType):
            Options(**wrong)
    for name in ("origin", "user_agent"):
        with pytest.raises(InvalidOption):
            Options(**{name: "a\r\nb: c"})  # type: ignore[arg-type]
    closed = socket.socket()
    closed.close()
    with pytest.raises(InvalidOption, match="open stream socket"):
        Options(sock=closed)


def test_a_socket_that_is_not_connected_or_has_tls_already_is_refused():
    with socket.socket() as unconnected, socket.create_server(("127.0.0.1", 0)) as listening:
        for sock in (unconnected, listening):
            with pytest.raises(InvalidOption, match="sock must be a socket that is connected"):
                Options(sock=sock)
        with socket.create_connection(listening.getsockname()) as mine:
            context = ssl.create_default_context()
            with context.wrap_socket(
                mine, server_hostname="localhost", do_handshake_on_connect=False
            ) as secure:
                with pytest.raises(InvalidOption, match="not an SSLSocket") as caught:
                    Options(sock=secure)
    assert caught.value.option == "sock"
