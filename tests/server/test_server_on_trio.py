"""What a server does for its connections asks an event loop only for what trio gives, too."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import functools
import logging
import os
import socket
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing
from tests.helpers.raw_peer import BOUND

from coro_websocket import HandshakeError, OtherEventLoopError, Request
from coro_websocket._http.client_address import Networks
from coro_websocket._http.server_handshake import ServerHandshake
from coro_websocket._runtimes.trio_loop import TrioLoop
from coro_websocket._server import accepting
from coro_websocket._server import ending as _ending
from coro_websocket._server.accepting import accept_connections
from coro_websocket._server.client import Client
from coro_websocket._server.deciding import ended_by_hang_up
from coro_websocket._server.draining import Draining
from coro_websocket._server.ending import Ending
from coro_websocket._server.hooks import call_hook
from coro_websocket._server.listening import Access, listen_unix
from coro_websocket._server.unfinished import Unfinished
from coro_websocket._streams.opening_pipes import SocketPipe
from coro_websocket._streams.user_socket import ConnectionSocket


def unlimited(loop):
    return Unfinished(loop, None, Networks())


def on_trio(main, *arguments):
    async def limited():
        with trio.fail_after(BOUND):
            await main(TrioLoop(trio), *arguments)

    trio.run(limited)


def test_clients_are_accepted_until_that_is_cancelled():
    async def main(loop):
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        address = listener.getsockname()
        accepted = []
        over = trio.Event()
        running = loop.spawn(
            lambda: accept_connections(
                loop, listener, 4, lambda *client: accepted.append(client), unlimited(loop)
            ),
            lambda _: over.set(),
        )
        clients = [socket.create_connection(address) for _ in range(10)]
        while len(accepted) < 10:
            await trio.sleep(0.001)
        running.cancel()
        await over.wait()
        assert listener.fileno() < 0
        assert {peer for _, peer in accepted} == {client.getsockname() for client in clients}
        for sock in (*clients, *(sock for sock, _ in accepted)):
            sock.close()

    on_trio(main)


def test_an_error_that_stays_is_met_with_a_pause_and_logged(monkeypatch, caplog):
    class Failing(socket.socket):
        def accept(self):
            if not caplog.records:
                raise OSError(errno.EMFILE, "Too many open files")
            raise BlockingIOError

    async def main(loop):
        with Failing() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            listener.setblocking(False)
            running = loop.spawn(
                lambda: accept_connections(loop, listener, 4, lambda *_: None, unlimited(loop))
            )
            while not caplog.records:
                await trio.sleep(0.001)
            running.cancel()
            await loop.wait([running])

    monkeypatch.setattr(accepting, "PAUSE", 0.001)
    on_trio(main)
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert line.endswith("Too many open files")


def test_a_unix_socket_is_waited_for_while_another_server_starts(tmp_path, monkeypatch):
    path = tmp_path / "socket"
    folder = os.open(tmp_path, os.O_RDONLY)

    async def main(loop):
        async def start():
            listener, file = await listen_unix(loop, str(path), 100, Access())
            file.delete()
            listener.close()

        fcntl.flock(folder, fcntl.LOCK_EX)
        starting = loop.spawn(start)
        await trio.testing.wait_all_tasks_blocked()
        assert not path.exists()
        fcntl.flock(folder, fcntl.LOCK_UN)
        await loop.wait([starting])
        assert not path.exists()

    try:
        on_trio(main)
    finally:
        os.close(folder)


class Telling:
    """What is `write` to a server that closes."""

    def __init__(self):
        self.told = trio.Event()
        self.close_frame = None

    def close(self, *close_frame):
        self.close_frame = close_frame
        self.told.set()
        return self.told.wait()


@pytest.mark.parametrize("within", [0.01, None])
def test_closing_waits_for_all_handlers_but_its_own(within):
    """One that is late is cancelled, where there is a limit."""
    told: dict[Any, Any] = {}
    ended: list[Any] = []
    clients: set[Any] = set()

    async def main(loop):
        ending = Ending(loop, clients)
        started = trio.Event()

        async def serve(client, name, handle):
            client.begin(loop.current_task()).close()
            write = Telling()
            client.write = write if name != "shaking hands" else None
            try:
                await handle(write)
            finally:
                ended.append(name)
                told[name] = write.close_frame

        async def prompt(write):
            await write.told.wait()

        async def late(write):
            await write.told.wait()
            await trio.sleep_forever()

        async def closer(write):
            await started.wait()
            with ending.by_caller():
                await ending.close_others(1001, "going away", within)
            assert set(ended) == {"prompt", "shaking hands", "late" if within else "prompt"}

        async def shaking_hands(write):
            await trio.sleep_forever()

        handlers = [prompt, closer, shaking_hands, *([late] if within else [])]
        for handle in handlers:
            client = Client(socket.socket(), clients)
            name = handle.__name__.replace("_", " ")
            work = functools.partial(serve, client, name, handle)
            client.running = loop.spawn(work, client.ended)
        await trio.testing.wait_all_tasks_blocked()
        started.set()
        while clients:
            await trio.sleep(0.001)

    on_trio(main)
    assert ended[-1] == "closer"
    assert told.pop("closer") is None
    assert told.pop("shaking hands") is None
    assert set(told.values()) == {(1001, "going away")}


@pytest.mark.parametrize("act", ["hangs up", "sends", "waits"])
def test_a_hook_is_ended_where_its_client_hangs_up_and_only_then(act):
    async def main(loop):
        ours, theirs = socket.socketpair()
        pipe = SocketPipe(loop, ConnectionSocket.taking_over(ours))
        handshake = ServerHandshake()
        assert handshake.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") is not None
        with theirs, contextlib.closing(pipe):
            if act == "hangs up":
                with pytest.raises(ConnectionResetError, match="hung up"):
                    async with ended_by_hang_up(loop, pipe, handshake):
                        theirs.close()
                        await trio.sleep_forever()
                return
            async with ended_by_hang_up(loop, pipe, handshake):
                if act == "sends":
                    theirs.send(b"frames")
                await trio.testing.wait_all_tasks_blocked(0.01)
            theirs.send(b" and more")
            assert handshake.leftover == (b"frames" if act == "sends" else b"")
            assert await pipe.receive() == b" and more"

    on_trio(main)


def test_a_hook_that_fails_is_told_from_one_that_is_cancelled():
    @contextlib.asynccontextmanager
    async def nothing():
        yield

    async def fails(req):
        await trio.lowlevel.checkpoint()
        raise ValueError("s3cret")

    async def main(loop):
        with pytest.raises(HandshakeError, match="process_request has failed") as caught:
            await call_hook(loop, "process_request", fails, (Request(),), nothing)
        assert isinstance(caught.value.__cause__, ValueError)
        with trio.CancelScope() as scope:
            scope.cancel()
            await call_hook(loop, "process_request", fails, (Request(),), nothing)
        assert scope.cancelled_caught

    on_trio(main)


def test_draining_waits_for_the_handlers_and_lets_go_of_who_sends_no_request(monkeypatch):
    """Handlers that drain the server too are not waited for from then on."""
    monkeypatch.setattr(_ending, "HANDSHAKE_GRACE", 0.01)
    ended: list[Any] = []
    clients: set[Any] = set()

    async def main(loop):
        ending = Ending(loop, clients)
        release = trio.Event()

        async def serve(client, name, handle):
            client.begin(loop.current_task()).close()
            client.write = Telling() if name != "shaking hands" else None
            try:
                await handle()
            finally:
                ended.append(name)

        async def prompt():
            await release.wait()

        async def drainer():
            await release.wait()
            with ending.by_caller():
                await ending.let_finish(None)

        async def shaking_hands():
            await trio.sleep_forever()

        for handle in (prompt, drainer, drainer, shaking_hands):
            client = Client(socket.socket(), clients)
            work = functools.partial(serve, client, handle.__name__.replace("_", " "), handle)
            client.running = loop.spawn(work, functools.partial(forget, client))
        with pytest.raises(TimeoutError):
            async with loop.limit(0.02):
                await ending.let_finish(None)  # what is cancelled leaves them all
        assert ended == []
        release.set()
        await ending.let_finish(None)
        assert ended[0] == "prompt"
        assert "shaking hands" not in ended
        await ending.close_others(1012, "service restart", None)
        assert "shaking hands" in ended
        while clients:
            await trio.sleep(0.001)
        assert sorted(ended) == ["drainer", "drainer", "prompt", "shaking hands"]

    def forget(client, _):
        clients.discard(client)

    on_trio(main)


def test_draining_is_awaited_in_its_own_run_only():
    async def main(loop):
        draining = Draining(loop)
        woken = []

        async def handler():
            await draining
            woken.append(True)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(handler)
            await trio.testing.wait_all_tasks_blocked()
            assert (bool(draining), woken) == (False, [])
            draining._set()
        assert (bool(draining), woken) == (True, [True])
        with pytest.raises(OtherEventLoopError, match=r"trio\.from_thread\.run"):
            await trio.to_thread.run_sync(trio.run, draining.wait)
        with pytest.raises(OtherEventLoopError):
            await trio.to_thread.run_sync(asyncio.run, draining.wait())

    on_trio(main)
