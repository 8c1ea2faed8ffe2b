"""The other end of an opening handshake, by hand: a server that follows a script.

Each connection runs its script in a thread, on a blocking socket, so that it does not depend on
the event loop under test, and serves tests of the command line as well. What it says after the
handshake are the frames of `raw_peer`. Nothing here knows the library.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from tests.helpers import raw_peer
from tests.helpers.raw_peer import Frame, answer_to, close_payload, frame, until

__all__ = [
    "BOUND",
    "Link",
    "ScriptedServer",
    "asking_for_a_certificate",
    "close_payload",
    "drip",
    "linger_zero",
    "no_timers_left",
    "refused_port",
    "scripted",
    "until",
]

BOUND = raw_peer.BOUND


class Link:
    """One end of a connection, played by hand on a blocking socket."""

    def __init__(self, sock: socket.socket, *, client: bool = False) -> None:
        sock.settimeout(BOUND)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.client = client
        self.received = bytearray()
        self.request = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def more(self) -> bool:
        """Receive more; False at the end of the stream."""
        data = self.sock.recv(65536)
        self.received += data
        return bool(data)

    def head(self) -> bytes:
        """The head of the other's request or answer."""
        while b"\r\n\r\n" not in self.received:
            assert self.more(), f"the stream ended in the head: {bytes(self.received)!r}"
        size = self.received.index(b"\r\n\r\n") + 4
        self.request = bytes(self.received[:size])
        del self.received[:size]
        return self.request

    def accept(self, *lines: bytes, then: bytes = b"") -> bytes:
        """Answer an opening handshake, with more header lines, `then` in the same segment."""
        head = self.head()
        more = b"".join(line + b"\r\n" for line in lines)
        self.send(answer_to(head)[:-2] + more + b"\r\n" + then)
        return head

    def frame(self, opcode: int, payload: bytes | str = b"", **bits: Any) -> bytes:
        return frame(opcode, payload, **{"masked": self.client, **bits})

    def write(self, opcode: int, payload: bytes | str = b"", **bits: Any) -> None:
        self.send(self.frame(opcode, payload, **bits))

    def read(self) -> Frame:
        """The next frame."""
        while (found := raw_peer.parse(self.received)) is None:
            assert self.more(), f"the stream ended, with {bytes(self.received)!r} left"
        received, size = found
        del self.received[:size]
        assert received.masked is not self.client  # RFC 6455 section 5.1
        return received

    def close_received(self) -> tuple[int | None, str]:
        """Skip whatever comes before a Close frame; its code and reason."""
        while (received := self.read()).opcode != raw_peer.CLOSE:
            pass
        return received.close

    def wait_end(self) -> None:
        """Take whatever comes until the other side has gone."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while self.more():
                pass

    def hang_up(self) -> None:
        """End the connection, in the middle of whatever it is."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """End it with a reset, as a host does that has crashed."""
        linger_zero(self.sock)
        self.sock.close()


Script = Callable[[Link], object]


def linger_zero(sock: socket.socket) -> None:
    """See to it that closing the socket resets the connection."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class ScriptedServer:
    """A listening server: where it is, and what has come of its connections."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None, path: str | None) -> None:
        self.script = script
        self.tls = tls
        self.path = path
        self.accepted = 0
        self.ended = 0
        self.failures: list[BaseException] = []
        self.stopping = threading.Event()
        self._links: list[Link] = []
        self._threads: list[threading.Thread] = []
        if path is not None:
            self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.listener.bind(path)
        else:
            self.listener = socket.socket()
            self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.port = 0 if path is not None else self.listener.getsockname()[1]
        self._start(self._accept)

    @property
    def url(self) -> str:
        scheme = "ws" if self.tls is None else "wss"
        if self.path is not None:
            return f"{scheme}+unix://{self.path}:/"
        return f"{scheme}://127.0.0.1:{self.port}/"

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            link = Link(sock)
            self._links.append(link)
            self.accepted += 1
            self._start(self._run, link)

    def _run(self, link: Link) -> None:
        try:
            if self.tls is not None:
                link.sock = self.tls.wrap_socket(link.sock, server_side=True)
                link.sock.settimeout(BOUND)
            self.script(link)
        except OSError as error:
            if isinstance(error, TimeoutError):
                self.failures.append(error)
        except BaseException as error:
            if not self.stopping.is_set():
                self.failures.append(error)
        finally:
            link.hang_up()
            link.sock.close()
            self.ended += 1

    def stop(self) -> None:
        self.stopping.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # which wakes `accept`
        self._threads[0].join(BOUND)  # which accepts: what it still began is known then
        for link in self._links:
            link.hang_up()
        for thread in list(self._threads):
            thread.join(BOUND)
            assert not thread.is_alive()
        self.listener.close()
        if self.path is not None:
            os.unlink(self.path)
        for failure in self.failures:
            raise failure


@contextlib.contextmanager
def scripted(
    script: Script, *, tls: ssl.SSLContext | None = None, path: str | None = None
) -> Iterator[ScriptedServer]:
    """A server on 127.0.0.1, or on a unix socket, that runs `script` for each connection.

    What the script raises fails the test, except that the connection has gone.
    """
    server = ScriptedServer(script, tls, path)
    try:
        yield server
    finally:
        server.stop()


def asking_for_a_certificate(certificates: Any) -> Script:
    """A script of a TLS server whose clients must show a certificate, and which says so."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=certificates.ca)
    context.load_cert_chain(certificates.cert_path, certificates.key_path)
    context.verify_mode = ssl.CERT_REQUIRED

    def script(link: Link) -> None:
        tls = context.wrap_socket(link.sock, server_side=True, do_handshake_on_connect=False)
        try:
            with pytest.raises(ssl.SSLError):
                tls.do_handshake()
        finally:
            link.sock = socket.socket(fileno=tls.detach())
            link.sock.settimeout(BOUND)
        link.wait_end()

    return script


def drip(link: Link, data: bytes, pause: float = 0.01) -> None:
    """Send a byte at a time, until the other side has gone."""
    link.sock.settimeout(pause)
    for byte in data:
        link.send(bytes([byte]))
        with contextlib.suppress(TimeoutError):
            if not link.more():
                return
    link.sock.settimeout(BOUND)


@contextlib.contextmanager
def refused_port() -> Iterator[int]:
    """A port on which nobody listens, and nobody else can."""
    with socket.socket() as sock:
        sock.bind(("", 0))
        yield sock.getsockname()[1]


@pytest.fixture
async def no_timers_left() -> AsyncIterator[None]:
    """No test leaves a timer to its event loop, where that shows them."""
    loop = asyncio.get_running_loop()

    def timers() -> list[asyncio.TimerHandle]:
        scheduled = getattr(loop, "_scheduled", [])
        return [timer for timer in scheduled if not timer.cancelled()]

    before = timers()
    yield
    deadline = time.monotonic() + BOUND / 5
    while (left := [timer for timer in timers() if timer not in before]) and (
        time.monotonic() < deadline
    ):
        await asyncio.sleep(0)
    assert not left
