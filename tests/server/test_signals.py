"""serve_forever(signals=True): a signal drains, a second one ends at once, a third one kills."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading

import pytest
import trio
import websockets
from tests.helpers.raw_peer import BOUND, echo

from coro_websocket import InvalidOption, connect, serve
from coro_websocket._runtimes.trio_loop import TrioLoop
from coro_websocket._server.signals import ENDING, Signals, check_signals

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SIGNALS = [signal.SIGINT, signal.SIGTERM]


async def end_of(read):
    while await read() is not None:
        pass


@contextlib.contextmanager
def counted(number):
    """What a program had done on this signal before, which counts how often it came."""
    came = []
    before = signal.signal(number, lambda *_: came.append(number))
    try:
        yield came
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_signal_drains_and_then_does_what_it_did_before(number, no_tasks_left):
    async def handler(req, read, write):
        await write("ready")
        await req.server.draining
        await write("last words")

    with counted(number) as before:
        async with asyncio.timeout(BOUND), serve(handler) as server:
            forever = asyncio.ensure_future(server.serve_forever(signals=True))
            async with connect(server.url) as (_, read, _):
                assert (await read()).payload == "ready"
                signal.raise_signal(number)
                assert (await read()).payload == "last words"
                await end_of(read)
                assert read.close_code == 1000
            await forever
            assert before == []
            signal.raise_signal(number)
            assert before == [number]


async def test_connections_that_are_open_at_the_end_of_drain_timeout_are_told_of_a_restart():
    async with asyncio.timeout(BOUND), serve(echo) as server:
        forever = asyncio.ensure_future(server.serve_forever(signals=True, drain_timeout=0.02))
        async with websockets.connect(server.url) as client:
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(websockets.ConnectionClosedError):
                await client.recv()
            assert (client.close_code, client.close_reason) == (1012, "service restart")
        await forever


async def test_a_second_signal_ends_at_once_and_a_third_one_does_what_it_did_before():
    """Though the handler takes its time, and the client does not answer the Close."""
    running = asyncio.Event()
    cancelled = asyncio.Event()
    go = asyncio.Event()

    async def handler(req, read, write):
        running.set()
        try:
            await asyncio.sleep(3600)
        finally:
            cancelled.set()
            with contextlib.suppress(asyncio.CancelledError):
                await go.wait()

    async with asyncio.timeout(BOUND), serve(handler, close_timeout=None) as server:
        with counted(signal.SIGTERM) as before:
            forever = asyncio.ensure_future(
                server.serve_forever(signals=[signal.SIGTERM], drain_timeout=None)
            )
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(REQUEST)
                await running.wait()
                signal.raise_signal(signal.SIGTERM)
                await server.draining
                assert not cancelled.is_set()
                signal.raise_signal(signal.SIGTERM)
                await cancelled.wait()
                assert before == []
                signal.raise_signal(signal.SIGTERM)
                assert before == [signal.SIGTERM]
                go.set()
                await forever


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_second_signal_tells_every_client_of_the_restart(tls, certificates):
    options = {"tls": certificates.server} if tls else {}
    trust = {"ssl": certificates.client} if tls else {}
    async with asyncio.timeout(BOUND), serve(echo, **options) as server:
        forever = asyncio.ensure_future(
            server.serve_forever(signals=[signal.SIGTERM], drain_timeout=None)
        )
        clients = [await websockets.connect(server.url, **trust) for _ in range(5)]
        for client in clients:
            await client.send("here")
            assert await client.recv() == "here"
        signal.raise_signal(signal.SIGTERM)
        await server.draining
        signal.raise_signal(signal.SIGTERM)
        await forever
        for client in clients:
            await client.wait_closed()
            assert client.close_code == 1012


async def test_without_signals_the_program_keeps_its_own():
    async with asyncio.timeout(BOUND), serve(echo) as server:
        with counted(signal.SIGTERM) as before:
            forever = asyncio.ensure_future(server.serve_forever())
            await asyncio.sleep(0)
            signal.raise_signal(signal.SIGTERM)
            assert before == [signal.SIGTERM]
            await server.close()
            await forever


async def test_each_of_several_servers_is_told():
    async with asyncio.timeout(BOUND), serve(echo) as one, serve(echo) as other:
        with counted(signal.SIGTERM) as before:
            forever = [
                asyncio.ensure_future(server.serve_forever(signals=True)) for server in (one, other)
            ]
            await asyncio.sleep(0.01)
            signal.raise_signal(signal.SIGTERM)
            await asyncio.gather(*forever)
            assert before == []
            signal.raise_signal(signal.SIGTERM)
            assert before == [signal.SIGTERM]


async def test_waiting_that_is_cancelled_restores_them_and_closes_the_server():
    async with asyncio.timeout(BOUND), serve(echo) as server:
        with counted(signal.SIGTERM) as before:
            forever = asyncio.ensure_future(server.serve_forever(signals=True))
            await asyncio.sleep(0.01)
            forever.cancel()
            await asyncio.wait([forever])
            signal.raise_signal(signal.SIGTERM)
            assert before == [signal.SIGTERM]
            await server.wait_closed()


async def test_systemd_is_told_that_the_server_is_ready_and_that_it_stops(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(BOUND)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        async with asyncio.timeout(BOUND), serve(echo) as server:
            forever = asyncio.ensure_future(server.serve_forever(signals=True))
            assert await asyncio.to_thread(systemd.recv, 100) == b"READY=1"
            signal.raise_signal(signal.SIGTERM)
            await forever
            assert systemd.recv(100) == b"STOPPING=1"


# On trio, where serve does not run yet


@pytest.mark.parametrize("number", SIGNALS)
def test_signals_are_told_on_trio(number):
    async def main():
        with trio.fail_after(BOUND), Signals(TrioLoop(trio), ENDING) as signals:
            for _ in range(2):
                trio.lowlevel.current_trio_token().run_sync_soon(signal.raise_signal, number)
                assert await signals.next() == number

    before = signal.getsignal(number)
    trio.run(main)
    assert signal.getsignal(number) is before


# Wrong calls


@pytest.mark.parametrize(
    ("signals", "said"), [(1, "a bool or signals"), ("ab", "signal.SIGTERM"), ([True], "signal")]
)
async def test_what_are_no_signals_is_refused_and_the_server_goes_on(signals, said):
    async with asyncio.timeout(BOUND), serve(echo) as server:
        with pytest.raises(InvalidOption, match=said):
            await server.serve_forever(signals=signals)
        async with connect(server.url):
            pass


async def test_a_signal_that_cannot_be_handled_is_named():
    async with asyncio.timeout(BOUND), serve(echo) as server:
        with counted(signal.SIGTERM) as before:
            with pytest.raises(InvalidOption, match=str(int(signal.SIGKILL))):
                await server.serve_forever(signals=[signal.SIGTERM, signal.SIGKILL])
            signal.raise_signal(signal.SIGTERM)
            assert before == [signal.SIGTERM]


def test_another_thread_is_told_what_to_do():
    caught = []

    def elsewhere():
        with pytest.raises(InvalidOption, match=r"server\.drain\(\)") as error:
            check_signals(True)
        caught.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(BOUND)
    assert caught


# As a program


PROGRAM = textwrap.dedent(
    """
    import asyncio, sys
    from coro_websocket import serve
    if "uvloop" in sys.argv:
        from uvloop import run
    else:
        from asyncio import run

    async def handler(req, read, write):
        async for msg in read:
            await write(msg.payload)

    async def main():
        async with serve(handler) as server:
            print(server.url, flush=True)
            await server.serve_forever(signals=True, drain_timeout=None)
        print("ended", flush=True)

    run(main())
    """
)


@contextlib.contextmanager
def program(*arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("numbers", [SIGNALS[:1], SIGNALS[1:], SIGNALS])
async def test_a_program_ends_by_itself_after_signals(loop, numbers):
    with program(loop) as process:
        url = (await asyncio.to_thread(process.stdout.readline)).strip()
        async with asyncio.timeout(BOUND), websockets.connect(url) as client:
            for number in numbers:
                os.kill(process.pid, number)
                await client.send("still here")
                if number != numbers[-1] or len(numbers) == 1:
                    assert await client.recv() == "still here"
                    with pytest.raises(OSError):
                        while True:  # it has left off listening
                            socket.create_connection(
                                ("127.0.0.1", client.remote_address[1])
                            ).close()
                            await asyncio.sleep(0.001)
            if len(numbers) == 2:
                with contextlib.suppress(websockets.ConnectionClosed):
                    while True:
                        await client.recv()
                assert client.close_code in (1006, 1012)
        out, _ = await asyncio.to_thread(process.communicate, timeout=BOUND)
        assert (process.returncode, out) == (0, "ended\n")
