"""The command's worker processes: started, replaced when they die, told to drain and to reload.

The rule: the listening sockets are opened once and stay open here, so that no client is lost while
a worker is replaced; who connects meanwhile waits in the backlog. Processes are started anew, never
forked, and nothing of an event loop is here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .._server.systemd import systemd_notify
from .channel import CLOSE, DRAIN, READY, READY_OVER_TLS, RELOAD
from .watching import INTERVAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .watching import Watch

__all__ = ["Workers"]

logger = logging.getLogger("coro_websocket.workers")

PAUSE = 1.0  # seconds until a worker that has died is replaced
LONGEST_PAUSE = 30.0  # where they die in quick succession
QUICK = 10.0  # seconds: what lives longer than that has not died quickly
CLOSING = 15.0  # seconds that a worker has beyond drain_timeout: close_timeout, and some more
AT_ONCE = 5.0  # seconds that a worker has after the second signal

HANGUP = getattr(signal, "SIGHUP", None)
CHILD = getattr(signal, "SIGCHLD", None)


@dataclass(eq=False)
class Worker:
    """A worker process."""

    number: int
    process: subprocess.Popen[bytes]
    channel: socket.socket
    begun: float = field(default_factory=time.monotonic)
    ready: bool = False
    over_tls: bool = False
    outdated: bool = False  # it has been told to make room for one with the new source

    def tell(self, command: bytes) -> None:
        with contextlib.suppress(OSError):  # it is about to die, or never listens
            self.channel.send(command)


class Workers:
    """The workers of one server.

    Args:
        count: how many.
        sockets: the listening sockets of each worker; those of the first for all, if there are no
            more.
        arguments: the command's arguments for a worker with these descriptors: its sockets and
            its channel.
        leave: called once the workers are about to end, to close our copies of the sockets: the
            workers have them too, and close them last.
        drain_timeout: as that of `drain`.
        watch: the application's source: when that changes, the workers are replaced at once.
    """

    def __init__(
        self,
        count: int,
        sockets: Sequence[Sequence[socket.socket]],
        arguments: Callable[[Sequence[int], int], Sequence[str]],
        leave: Callable[[], object],
        drain_timeout: float | None,
        watch: Watch | None = None,
    ) -> None:
        self._count = count
        self._sockets = sockets
        self._arguments = arguments
        self._leave = leave
        self._drain_timeout = drain_timeout
        self._watch = watch
        self._workers: dict[int, Worker] = {}
        self._due: dict[int, float] = {}  # when the workers with these numbers are to be started
        self._pause = PAUSE
        self._serving = False  # whether all of the first were ready
        self._ending = 0  # signals that end the server
        self._kill_at: float | None = None
        self._status = 0
        self._selector = selectors.DefaultSelector()

    def run(self, serving: Callable[[bool], object]) -> int:
        """Serve until a signal ends that; the exit status.

        serving: called once all workers accept connections; with whether they do so over TLS.
        """
        with self._selector, self._signals() as came:
            try:
                for number in range(self._count):
                    self._start(number)
                while self._workers or (not self._ending and (self._due or self._watch)):
                    self._wait()
                    for each in came():
                        self._on_signal(each)
                    self._hear_and_reap()
                    self._tell_once_serving(serving)
                    self._replace_outdated()
                    self._start_due()
                    self._kill_late()
            finally:
                for worker in self._workers.values():  # something of ours has failed
                    worker.process.kill()
                    worker.process.wait()
                    worker.channel.close()
        return self._status

    def _tell_once_serving(self, serving: Callable[[bool], object]) -> None:
        ready = [worker for worker in self._workers.values() if worker.ready]
        if not self._serving and not self._ending and len(ready) == self._count:
            self._serving = True
            serving(ready[0].over_tls)
            systemd_notify("READY=1")

    # Signals

    @contextlib.contextmanager
    def _signals(self) -> Iterator[Callable[[], bytes]]:
        """While it is entered, signals wake the selector; what it gives says which came."""
        reading, writing = socket.socketpair()
        with reading, writing:
            reading.setblocking(False)
            writing.setblocking(False)
            numbers = [signal.SIGTERM, signal.SIGINT]
            numbers += [each for each in (HANGUP, CHILD) if each is not None]
            before = {each: signal.signal(each, lambda *_: None) for each in numbers}
            woken = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
            self._selector.register(reading, selectors.EVENT_READ)
            try:
                yield lambda: _receive(reading)
            finally:
                signal.set_wakeup_fd(woken)
                for number, handler in before.items():
                    signal.signal(number, handler)

    def _on_signal(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._end(f"signal {number} came")
        elif number == HANGUP and not self._ending:
            stamp = time.monotonic_ns() // 1000
            systemd_notify(f"RELOADING=1\nMONOTONIC_USEC={stamp}")
            self._tell(RELOAD)
            systemd_notify("READY=1")

    def _tell(self, command: bytes) -> None:
        for worker in self._workers.values():
            worker.tell(command)

    def _end(self, why: str) -> None:
        """Drain the workers; if they do so already, have them close at once; kill them."""
        self._ending += 1
        now = time.monotonic()
        if self._ending == 1:
            logger.info("draining the workers: %s", why)
            systemd_notify("STOPPING=1")
            self._due.clear()
            self._leave()
            self._tell(DRAIN)
            if self._drain_timeout is not None:
                self._kill_at = now + self._drain_timeout + CLOSING
        elif self._ending == 2:
            logger.info("closing the workers at once: %s", why)
            self._tell(CLOSE)
            self._kill_at = now + AT_ONCE
        else:
            self._kill_at = now

    # Processes

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            sockets = [sock.fileno() for sock in self._sockets[number % len(self._sockets)]]
            environment = dict(os.environ)
            environment.pop("NOTIFY_SOCKET", None)  # systemd is told by us alone
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "coro_websocket",
                    *self._arguments(sockets, theirs.fileno()),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[*sockets, theirs.fileno()],
                env=environment,
                process_group=0,  # the terminal's Ctrl-C is for us, who tell them to drain
            )
        ours.setblocking(False)
        self._selector.register(ours, selectors.EVENT_READ)
        self._workers[number] = Worker(number, process, ours)

    def _start_due(self) -> None:
        now = time.monotonic()
        for number in [each for each, when in self._due.items() if when <= now]:
            del self._due[number]
            self._start(number)

    def _replace_outdated(self) -> None:
        """Where the source has changed, close the workers, and start those that are not there."""
        if self._watch is None or self._ending or (changed := self._watch.changed()) is None:
            return
        logger.warning("%s has changed: starting anew", changed)
        for worker in self._workers.values():
            worker.outdated = True
            worker.tell(CLOSE)
        now = time.monotonic()
        self._due.update(dict.fromkeys(range(self._count), now))
        for number in self._workers:
            del self._due[number]

    def _wait(self) -> None:
        """Until something happens, or is to be done."""
        moments = [*self._due.values(), *([] if self._kill_at is None else [self._kill_at])]
        timeout = max(0.0, min(moments) - time.monotonic()) if moments else None
        if self._watch is not None:
            timeout = INTERVAL if timeout is None else min(timeout, INTERVAL)
        self._selector.select(timeout)

    def _hear_and_reap(self) -> None:
        for worker in list(self._workers.values()):
            with contextlib.suppress(OSError):
                heard = worker.channel.recv(100)
                if heard in (READY, READY_OVER_TLS):
                    worker.ready = True
                    worker.over_tls = heard == READY_OVER_TLS
                elif not heard:  # it is about to end
                    self._stop_hearing(worker)
            if worker.process.poll() is not None:
                self._stop_hearing(worker)
                worker.channel.close()
                del self._workers[worker.number]
                self._on_end(worker)

    def _stop_hearing(self, worker: Worker) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.channel)

    def _on_end(self, worker: Worker) -> None:
        status = worker.process.returncode
        how = f"ended with {status}" if status >= 0 else f"was ended by signal {-status}"
        which = f"worker {worker.number} (process {worker.process.pid})"
        if self._ending:
            if status and not self._status:
                self._status = 1
            return
        if worker.outdated:
            self._due[worker.number] = time.monotonic()
            return
        if self._watch is not None and not worker.ready:
            logger.error("%s %s before it served: waiting for a change", which, how)
            return
        if not worker.ready and not self._serving:
            logger.error("%s %s before it served: so does the server", which, how)
            self._status = status if status > 0 else 1
            self._end("a worker cannot begin")
            return
        now = time.monotonic()
        quickly = now - worker.begun < QUICK
        self._pause = min(2 * self._pause, LONGEST_PAUSE) if quickly else PAUSE
        pause = self._pause / 2 if quickly else PAUSE
        logger.warning("%s %s: another one starts in %g s", which, how, pause)
        self._due[worker.number] = now + pause

    def _kill_late(self) -> None:
        if self._kill_at is None or time.monotonic() < self._kill_at:
            return
        self._kill_at = None
        for worker in self._workers.values():
            logger.error("worker %d has not ended, and is killed", worker.number)
            self._status = 1
            worker.process.kill()


def _receive(sock: socket.socket) -> bytes:
    try:
        return sock.recv(4096)
    except BlockingIOError:
        return b""
