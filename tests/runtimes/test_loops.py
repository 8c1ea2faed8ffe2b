"""What opening and serving ask of an event loop: the same on asyncio's, and on trio."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import inspect
import itertools
import os
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio
from tests.conftest import pytest_asyncio_loop_factories

from coro_websocket import ConnectError, ConnectTimeout, NoEventLoopError, Options, TLSError
from coro_websocket._opening import happy_eyeballs
from coro_websocket._opening.dial import dial
from coro_websocket._opening.phase import Phase
from coro_websocket._runtimes.asyncio_loop import AsyncioLoop, ProactorAcceptor
from coro_websocket._runtimes.bare_loop import BareLoop
from coro_websocket._runtimes.current import current_loop, running_loop
from coro_websocket._runtimes.event_loop import SocketLoop
from coro_websocket._runtimes.lookup import look_up, look_up_to_listen
from coro_websocket._runtimes.throttle import Throttle
from coro_websocket._runtimes.trio_loop import TrioLoop
from coro_websocket._streams.opening_pipes import open_pipe
from coro_websocket._streams.user_socket import ConnectionSocket

BOUND = 8.0  # seconds
FACTORIES = pytest_asyncio_loop_factories()

Body = Callable[..., Awaitable[None]]


def on_every_loop(body: Body) -> Callable[..., None]:
    """The test on asyncio's loops and on trio. It gets the loop first, and then its fixtures."""

    async def on_asyncio(fixtures: dict[str, Any]) -> None:
        loop = current_loop()
        assert isinstance(loop, AsyncioLoop)
        async with asyncio.timeout(BOUND):
            await body(loop, **fixtures)

    async def on_trio(fixtures: dict[str, Any]) -> None:
        loop = current_loop()
        assert isinstance(loop, TrioLoop)
        with trio.fail_after(BOUND):
            await body(loop, **fixtures)

    @pytest.mark.parametrize("kind", [*FACTORIES, "trio"])
    def test(kind: str, **fixtures: Any) -> None:
        if kind == "trio":
            trio.run(on_trio, fixtures)
        else:
            with asyncio.Runner(loop_factory=FACTORIES[kind]) as runner:
                runner.run(on_asyncio(fixtures))

    _, *fixtures = inspect.signature(body).parameters.values()
    kind = inspect.signature(test).parameters["kind"]
    test.__signature__ = inspect.Signature([kind, *fixtures])
    test.__doc__ = body.__doc__
    return test


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


async def accepted(loop: SocketLoop, listener: socket.socket) -> tuple[socket.socket, Any]:
    with contextlib.closing(loop.acceptor(listener)) as acceptor:
        return await acceptor.accept()


async def turns(loop: SocketLoop) -> None:
    """Long enough for what was on its way to have arrived."""
    for _ in range(10):
        await loop.sleep(0)


# Sockets


@on_every_loop
async def test_an_acceptor_goes_on_from_one_client_to_the_next(loop):
    with listening() as listener, contextlib.closing(loop.acceptor(listener)) as acceptor:
        for _ in range(3):
            with socket.socket() as ours:
                ours.setblocking(False)
                waiting = loop.event()
                got: list[socket.socket] = []

                async def accept(waiting=waiting, got=got):
                    got.append((await acceptor.accept())[0])
                    waiting.set()

                loop.spawn(accept)
                await turns(loop)  # it waits by now
                await loop.connect(ours, listener.getsockname())
                await waiting.wait()
                await turns(loop)
                got[0].close()


@on_every_loop
async def test_a_listener_is_watched_only_while_somebody_accepts(loop):
    """A loop that watches a listener with a client comes to no rest."""
    if type(loop) is not AsyncioLoop:
        return
    with listening() as listener, contextlib.closing(loop.acceptor(listener)) as acceptor:

        async def accept():
            await acceptor.accept()

        waiting = loop.spawn(accept)
        await turns(loop)
        waiting.cancel()
        await loop.wait([waiting])
        with socket.create_connection(listener.getsockname()):
            await turns(loop)
            assert not loop.loop.remove_reader(listener.fileno())
            (await acceptor.accept())[0].close()


async def cancelled_in_every_turn(loop: Any, acceptor_of: Callable[..., Any]) -> None:
    """In one of these turns of the loop it has the client, and has not returned it."""
    with listening() as listener, contextlib.closing(acceptor_of(listener)) as acceptor:
        for number in range(10):
            got: list[Any] = []

            async def accept(got=got):
                got.append(await acceptor.accept())

            waiting = loop.spawn(accept)
            await turns(loop)
            with socket.create_connection(listener.getsockname()) as client:
                for _ in range(number):
                    await loop.sleep(0)
                waiting.cancel()
                await loop.wait([waiting])
                if not got:
                    async with loop.limit(BOUND):
                        got.append(await acceptor.accept())
                accepted, address = got[0]
                accepted.close()
                assert address == client.getsockname()
        assert await acceptor.last() is None


@on_every_loop
async def test_no_client_is_lost_whenever_an_accept_is_cancelled(loop):
    await cancelled_in_every_turn(loop, loop.acceptor)


class ProactorLike(asyncio.SelectorEventLoop):
    """Accepts as Windows' proactor does: at once, and until the listener is closed."""

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        future = self.create_future()

        def look() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(sock.accept())
            except BlockingIOError:
                self.call_soon(look)
            except OSError as error:
                future.set_exception(error)

        look()
        accepted: tuple[socket.socket, Any] = await future
        return accepted


def test_no_client_is_lost_whenever_a_proactors_accept_is_cancelled():
    with asyncio.Runner(loop_factory=ProactorLike) as runner:
        loop = runner.get_loop()
        acceptor_of = functools.partial(ProactorAcceptor, loop)
        runner.run(cancelled_in_every_turn(AsyncioLoop(loop), acceptor_of))


@pytest.mark.parametrize("turns_between", range(5))
def test_a_client_that_a_proactor_accepts_in_the_last_moment_is_given(turns_between):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with listening() as listener:
            acceptor = ProactorAcceptor(loop, listener)
            accepting = asyncio.ensure_future(acceptor.accept())
            await asyncio.sleep(0)
            accepting.cancel()
            await asyncio.wait([accepting])
            with socket.create_connection(listener.getsockname()) as client:
                for _ in range(turns_between):
                    await asyncio.sleep(0)
                acceptor.close()
                listener.close()
                last = await acceptor.last()
                if last is None:  # only what was not accepted is nobody's
                    assert turns_between < 2
                else:
                    last[0].close()
                    assert last[1] == client.getsockname()
                assert await acceptor.last() is None

    with asyncio.Runner(loop_factory=ProactorLike) as runner:
        runner.run(main())


@on_every_loop
async def test_a_socket_is_connected_and_accepted(loop):
    with listening() as listener, socket.socket() as ours:
        ours.setblocking(False)
        await loop.connect(ours, listener.getsockname())
        theirs, address = await accepted(loop, listener)
        with theirs:
            assert address == ours.getsockname()
            await loop.send(ours, b"hello")
            theirs.setblocking(False)
            assert await loop.receive(theirs, 100) == b"hello"
            ours.close()
            assert await loop.receive(theirs, 100) == b""


@on_every_loop
async def test_who_waits_for_a_client_or_for_bytes_gets_what_comes_later(loop):
    got: list[Any] = []

    async def accept():
        theirs, _ = await accepted(loop, listener)
        with theirs:
            theirs.setblocking(False)
            got.append(await loop.receive(theirs, 100))

    with listening() as listener, socket.socket() as ours:
        ours.setblocking(False)
        accepting = loop.spawn(accept)
        await turns(loop)
        await loop.connect(ours, listener.getsockname())
        await turns(loop)
        assert not got
        await loop.send(ours, b"hello")
        await loop.wait([accepting])
        assert got == [b"hello"]


@on_every_loop
async def test_a_refusal_is_the_error_that_the_system_gives(loop):
    with listening() as listener:
        address = listener.getsockname()
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(ConnectionRefusedError) as caught:
            await loop.connect(sock, address)
        assert caught.value.errno == errno.ECONNREFUSED


@on_every_loop
async def test_what_a_socket_has_no_room_for_is_sent_as_the_peer_takes_it(loop):
    data = os.urandom(1 << 20)
    received = bytearray()

    async def receive():
        while len(received) < len(data):
            received.extend(await loop.receive(theirs, 65536))

    with pair() as (ours, theirs):
        sending = loop.spawn(lambda: loop.send(ours, data))
        await turns(loop)
        assert not sending.done()
        await loop.wait([loop.spawn(receive), sending])
        assert received == data


@on_every_loop
async def test_who_stops_waiting_for_a_socket_leaves_it_as_it_was(loop):
    with pair() as (ours, theirs):
        waiting = loop.spawn(lambda: _ignore(loop.receive(ours, 100)))
        await turns(loop)
        waiting.cancel()
        await loop.wait([waiting])
        await loop.send(theirs, b"hello")
        assert await loop.receive(ours, 100) == b"hello"


async def _ignore(awaitable):
    await awaitable


# Time and tasks


@on_every_loop
async def test_a_block_that_takes_longer_than_its_limit_is_ended(loop):
    began = loop.time()
    with pytest.raises(TimeoutError):
        async with loop.limit(0.02) as limit:
            await loop.event().wait()
    assert limit.expired()
    assert loop.time() - began >= 0.015


@on_every_loop
async def test_a_limit_that_is_not_crossed_says_so(loop):
    for seconds in (BOUND, None):
        async with loop.limit(seconds) as limit:
            await loop.sleep(0)
        assert not limit.expired()
    with pytest.raises(TimeoutError, match="of another"):
        async with loop.limit(BOUND) as limit:
            raise TimeoutError("of another")
    assert not limit.expired()


@on_every_loop
async def test_the_end_of_work_is_told_once_it_is_over(loop):
    told: list[Any] = []
    go_on = loop.event()

    async def work():
        await go_on.wait()

    task = loop.spawn(work, told.append)
    await turns(loop)
    assert not told
    assert not task.done()
    go_on.set()
    await loop.wait([task])
    await turns(loop)
    assert task.done()
    assert told == [task]


@on_every_loop
async def test_the_end_of_work_is_told_even_if_it_was_cancelled_before_it_began(loop):
    told: list[Any] = []
    task = loop.spawn(loop.event().wait, told.append)
    task.cancel()
    await loop.wait([task])
    await turns(loop)
    assert told == [task]


@on_every_loop
async def test_many_are_waited_for_or_the_first_of_them_or_for_some_time(loop):
    events = [loop.event() for _ in range(3)]
    tasks = [loop.spawn(event.wait) for event in events]
    await loop.wait(tasks, 0.01)
    await loop.wait(tasks, 0.01, first=True)
    assert not any(task.done() for task in tasks)
    events[1].set()
    await loop.wait(tasks, first=True)
    assert [task.done() for task in tasks] == [False, True, False]
    await loop.wait(tasks, first=True)  # at once
    for event in events:
        event.set()
    await loop.wait(tasks)
    assert all(task.done() for task in tasks)
    await loop.wait([])
    await loop.wait([], first=True)


@on_every_loop
async def test_who_waits_for_work_and_is_cancelled_leaves_it_running(loop):
    event = loop.event()
    task = loop.spawn(event.wait)
    with pytest.raises(TimeoutError):
        async with loop.limit(0.01):
            await loop.wait([task])
    assert not task.done()
    event.set()
    await loop.wait([task])


@on_every_loop
async def test_a_thread_has_something_called_in_the_loop(loop):
    event, called_in = loop.event(), []

    def call():
        called_in.append(threading.get_ident())
        event.set()

    thread = threading.Thread(target=loop.call_soon, args=(call,))
    thread.start()
    await event.wait()
    thread.join()
    assert called_in == [threading.get_ident()]


@on_every_loop
async def test_the_cancellation_of_the_running_task_is_no_failure(loop):
    raised = []

    async def wait():
        try:
            await loop.event().wait()
        except BaseException as error:
            raised.append((loop.is_cancellation(error), loop.is_failure(error)))
            raise

    task = loop.spawn(wait)
    await turns(loop)
    task.cancel()
    await loop.wait([task])
    assert raised == [(True, False)]
    assert not loop.is_cancellation(ValueError())
    assert loop.is_failure(ValueError())
    assert not loop.is_failure(KeyboardInterrupt())


def test_the_cancellation_of_a_nursery_is_one_too():
    """trio raises what was in it as a group."""
    raised = []

    async def wait(loop):
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                await trio.sleep_forever()
        except BaseException as error:
            raised.append((loop.is_cancellation(error), loop.is_failure(error)))
            raise

    async def main():
        loop = TrioLoop(trio)
        task = loop.spawn(lambda: wait(loop))
        await turns(loop)
        task.cancel()
        await loop.wait([task])
        assert not loop.is_cancellation(BaseExceptionGroup("", [KeyboardInterrupt()]))
        assert loop.is_failure(ExceptionGroup("", [ValueError()]))

    trio.run(main)
    assert raised == [(True, False)]


def test_what_fails_in_a_task_of_ours_does_not_end_the_trio_run(caplog):
    """Beside its cancellation, too: trio raises both as a group."""
    ended: list[object] = []

    async def fail():
        raise ValueError("at once")

    async def fail_late():
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("when cancelled")

    async def wait():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(fail_late)

    async def main():
        loop = TrioLoop(trio)
        tasks = [loop.spawn(work, ended.append) for work in (fail, wait)]
        await turns(loop)
        tasks[1].cancel()
        await loop.wait(tasks)
        assert ended == tasks

    trio.run(main)
    assert len(caplog.records) == 2
    for record in caplog.records:
        assert record.name == "coro_websocket"
        assert record.exc_info[1].subgroup(ValueError) is not None


def test_an_end_that_comes_after_the_loops_own_is_neither_a_cancellation_nor_a_failure():
    """A coroutine that is collected with its loop gets a GeneratorExit, and no loop runs then."""

    async def main():
        return running_loop("a test")

    loop = asyncio.run(main())
    assert not loop.is_cancellation(GeneratorExit())
    assert not loop.is_failure(GeneratorExit())


async def test_a_future_that_somebody_has_cancelled_is_a_failure_of_who_awaits_it():
    loop, future = current_loop(), asyncio.get_running_loop().create_future()
    future.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await future
    assert not loop.is_cancellation(caught.value)
    assert loop.is_failure(caught.value)


@on_every_loop
async def test_a_throttle_lets_so_many_go_on_in_a_turn(loop):
    throttle = Throttle(loop, 2)
    given: list[Any] = []

    async def work():
        await throttle.take()
        given.append(None)

    tasks = [loop.spawn(work) for _ in range(5)]
    counts = [0]
    while counts[-1] < 5:
        await loop.sleep(0)
        counts.append(len(given))
    assert max(b - a for a, b in itertools.pairwise(counts)) <= 4
    await loop.wait(tasks)


# Names


@on_every_loop
async def test_names_are_looked_up(loop):
    found = await look_up(loop, "127.0.0.1", 80)
    assert [address for *_, address in found] == [("127.0.0.1", 80)]
    (every, *_) = await look_up_to_listen(loop, "", 80)
    assert every[4][0] in ("0.0.0.0", "::")
    with pytest.raises(OSError):
        await look_up(loop, "127.0.0.1", 80, socket.AF_INET6)


@on_every_loop
async def test_who_leaves_a_look_up_gets_no_answer(loop):
    answered = threading.Event()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(BOUND) and [])
        with pytest.raises(TimeoutError):
            async with loop.limit(0.02):
                await look_up(loop, "slow.test", 80)
        answered.set()
        assert await look_up(loop, "fast.test", 80) == []


# Happy Eyeballs


def addresses_of(*listeners):
    return [(socket.AF_INET, socket.SOCK_STREAM, 0, each.getsockname()) for each in listeners]


@on_every_loop
async def test_of_several_addresses_the_first_to_answer_is_used(loop):
    with listening() as closed:
        refusing = addresses_of(closed)
    with listening() as listener:
        addresses = refusing * 2 + addresses_of(listener)
        sock = await happy_eyeballs._connect_first(loop, addresses, None, "name.test")
        assert sock.getpeername() == listener.getsockname()
        sock.release()
        with pytest.raises(ConnectError, match=r"Connection refused; .*Connection refused"):
            await happy_eyeballs._connect_first(loop, refusing * 2, None, "name.test")


@on_every_loop
async def test_who_is_cancelled_once_an_address_has_answered_leaves_no_socket_open(loop):
    """Slower attempts are being ended, which takes a moment."""
    made = []

    class Recorded(happy_eyeballs.ConnectionSocket):  # type: ignore[name-defined]
        def __init__(self, *rest):
            super().__init__(*rest)
            made.append(self)

    async def wait(_, tasks, within=None, *, first=False):
        if first:
            await real(tasks, within, first=first)
        else:
            await loop.event().wait()

    real = loop.wait
    with listening() as one, listening() as other, pytest.MonkeyPatch.context() as patch:
        patch.setattr(happy_eyeballs, "ConnectionSocket", Recorded)
        patch.setattr(type(loop), "wait", wait)
        with pytest.raises(TimeoutError):
            async with loop.limit(0.05):
                await happy_eyeballs._connect_first(loop, addresses_of(one, other), None, "name")
        assert made
        assert {sock.fileno() for sock in made} == {-1}


# Dialling and accepting


async def dialled(loop, listener, context=None, **options):
    """A pipe to the listener."""
    built = Options(host="127.0.0.1", port=listener.getsockname()[1], **options)
    return await dial(loop, built, context, Phase(loop, built))


@contextlib.asynccontextmanager
async def answering(loop, listener, context=None):
    """A server on the listener that says to one client, in capitals, what that has said."""

    async def answer():
        sock = ConnectionSocket.taking_over((await accepted(loop, listener))[0])
        pipe = await open_pipe(loop, sock, tls=context, server_side=True)
        try:
            while data := await pipe.receive():
                await pipe.send(data.upper())
        finally:
            pipe.close()

    task = loop.spawn(answer)
    try:
        yield
    finally:
        task.cancel()
        await loop.wait([task])


@pytest.mark.parametrize("tls", [False, True])
@on_every_loop
async def test_bytes_go_both_ways_before_there_is_a_connection(loop, tls, certificates):
    server, client = (certificates.server, certificates.client) if tls else (None, None)
    with listening() as listener:
        async with answering(loop, listener, server):
            pipe = await dialled(loop, listener, client)
            assert (pipe.ssl_object is not None) == tls
            await pipe.send(b"hello")
            assert await pipe.receive() == b"HELLO"
            pipe.close()
            await turns(loop)


@on_every_loop
async def test_a_certificate_that_is_not_trusted_is_told(loop, certificates):
    async def refused():
        sock = ConnectionSocket.taking_over((await accepted(loop, listener))[0])
        with pytest.raises(OSError):
            await open_pipe(loop, sock, tls=certificates.server, server_side=True)

    with listening() as listener:
        task = loop.spawn(refused)
        with pytest.raises(TLSError, match="certificate is not accepted"):
            await dialled(loop, listener, ssl.create_default_context())
        await loop.wait([task])


@on_every_loop
async def test_a_server_that_says_nothing_runs_into_the_deadline_of_its_phase(loop, certificates):
    with listening() as listener:
        with pytest.raises(ConnectTimeout, match=r"tls_timeout") as caught:
            await dialled(loop, listener, certificates.client, tls_timeout=0.05)
        assert caught.value.phase == "tls"


# Which loop runs


def test_where_no_loop_runs_it_is_said_what_was_called():
    with pytest.raises(NoEventLoopError, match=r"connect\(\) was called outside"):
        running_loop("connect()")
    loop = current_loop()
    assert isinstance(loop, BareLoop)
    assert not loop.spawns
    assert loop.is_failure(ValueError())
    assert not loop.is_failure(KeyboardInterrupt())


@pytest.mark.parametrize("kind", FACTORIES)
def test_a_loop_that_has_ended_says_so(kind):
    async def here():
        return running_loop("a test")

    with asyncio.Runner(loop_factory=FACTORIES[kind]) as runner:
        loop = runner.run(here())
    with pytest.raises(RuntimeError):
        loop.call_soon(print)


def test_a_trio_run_that_has_ended_says_so():
    async def here():
        return current_loop()

    loop = trio.run(here)
    with pytest.raises(RuntimeError):
        loop.call_soon(print)
