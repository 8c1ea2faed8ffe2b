"""One end of a connection, in a network namespace of its own: `part.py WHAT JSON`.

It prints what happens as lines of JSON, each with the time `at` (of CLOCK_MONOTONIC, which all
processes share).
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import struct
import sys
import time
from typing import Any

from coro_websocket import Message, WebSocketError, connect, serve
from coro_websocket.codec import encode


def say(event: str, **what: Any) -> None:
    print(json.dumps({"event": event, "at": time.monotonic(), **what}), flush=True)


def say_error(event: str, error: BaseException) -> None:
    say(
        event,
        error=type(error).__name__,
        text=str(error),
        code=getattr(error, "code", None),
        phase=getattr(error, "phase", None),
    )


async def use(do: str, read: Any, write: Any) -> None:
    """What an end does with its connection until that ends."""
    say("open")

    async def reading() -> None:
        try:
            async for message in read:
                if do == "echo":
                    await write(message.payload)
                else:
                    say("message", len=message.len)
        except WebSocketError as error:
            say_error("read", error)
        else:
            say("read", error=None, code=read.close_code)

    async def writing() -> None:
        try:
            while True:
                writing = asyncio.ensure_future(write(data, compress=do == "flood compressed"))
                await asyncio.wait([writing], timeout=0.3)
                if not writing.done():
                    say("blocked")
                await writing
        except WebSocketError as error:
            say_error("write", error)

    if do == "ask":
        for number in range(60):
            text = f"{number} " + "x" * (number % 7 * 3000)
            await write(text)
            message = await read()
            assert message.payload == text
        await write.close()
        say("read", error=None, code=read.close_code, messages=60)
    elif do == "close":
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        reader = asyncio.ensure_future(reading())
        say("closing")
        await write.close()
        say("closed")
        await reader
    elif do in ("flood", "flood compressed"):
        data = os.urandom(1 << 20)
        await asyncio.gather(reading(), writing())
    elif do == "idle":  # takes nothing, so that the other end's writer is blocked
        await write.wait_closed()
    else:
        await reading()


async def client(url: str, do: str, ca: str | None = None, **options: Any) -> None:
    if ca is not None:
        options["tls"] = {"ca": ca}
    say("connecting")
    try:
        _, read, write = await connect(url, **options)
    except WebSocketError as error:
        say_error("connect", error)
        return
    await use(do, read, write)


async def server(do: str, host: str = "", **options: Any) -> None:
    done = asyncio.Event()

    async def handler(request: Any, read: Any, write: Any) -> None:
        try:
            await use(do, read, write)
        finally:
            done.set()

    async with serve(handler, host, **options) as running:
        say("listening", port=running.port, url=running.url)
        await done.wait()


def frame_head(size: int) -> bytes:
    return struct.pack(">BBH", 0x82, 126, size)


def raw(how: str, cert: str, key: str, answer_with: str) -> None:
    """A server by hand that ends each connection as `how` says."""
    sys.path.insert(0, answer_with)
    from tests.helpers.raw_peer import answer_to

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with socket.create_server(("", 0)) as listener:
        say("listening", port=listener.getsockname()[1])
        sock, _ = listener.accept()
        sock.settimeout(20)
        if how == "hang up in the upgrade":
            sock.recv(65536)
            say("ends")
            sock.close()
            return
        if how == "reset":
            sock.sendall(answer_to(sock.recv(65536)) + frame_head(1000) + bytes(1000))
            time.sleep(0.1)
        elif how.startswith("reset"):
            sock.recv(10 if how == "reset in TLS" else 65536)
            if how == "reset in the answer":
                sock.sendall(b"HTTP/1.1 101 Swit")
        if how.startswith("reset"):
            reset(sock)
            return
        over_tls = context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=True)
        request = b""
        while b"\r\n\r\n" not in request:
            request += over_tls.recv(65536)
        over_tls.sendall(answer_to(request))
        over_tls.sendall(frame_head(1000) + bytes(1000))
        if how == "truncated in a message":
            over_tls.sendall(frame_head(1000) + bytes(500))
        truncate(over_tls)


def raw_client(how: str, port: int, ca: str) -> None:
    """A client by hand that ends its connection as `how` says."""
    sock = socket.create_connection(("10.77.0.2", port), timeout=20)
    if how.startswith("truncated"):
        context = ssl.create_default_context(cafile=ca)
        sock = context.wrap_socket(sock, server_hostname="10.77.0.2")
    sock.sendall(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += sock.recv(65536)
    message = encode(Message(bytes(1000), 2, mask=True))
    sock.sendall(message)
    if how == "truncated in a message":
        sock.sendall(message[:500])
    if isinstance(sock, ssl.SSLSocket):
        truncate(sock)
    else:
        time.sleep(0.1)  # a reset overtakes what has not been read
        reset(sock)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    say("ends")
    sock.close()


def truncate(over_tls: ssl.SSLSocket) -> None:
    """A FIN, and no close_notify before it."""
    plain = socket.socket(fileno=over_tls.detach())
    say("ends")
    plain.shutdown(socket.SHUT_WR)
    try:
        while plain.recv(65536):
            pass
    except OSError:
        pass
    plain.close()


def silent_nameserver() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", 53))
        say("listening", port=53)
        while True:
            sock.recv(2000)
            say("asked")


def main() -> None:
    what, options = sys.argv[1], json.loads(sys.argv[2])
    loop = options.pop("loop", "asyncio")
    if what == "raw":
        raw(**options)
    elif what == "raw client":
        raw_client(**options)
    elif what == "nameserver":
        silent_nameserver()
    else:
        factory = None
        if loop == "uvloop":
            import uvloop

            factory = uvloop.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run({"client": client, "server": server}[what](**options))  # type: ignore[operator]


if __name__ == "__main__":
    main()
