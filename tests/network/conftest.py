"""Two network namespaces and a cable between them, for each test, and none left behind."""

from __future__ import annotations

import itertools
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
BOUND = 60.0  # seconds for anything that is to happen: machines may be busy
ADDRESSES = ("10.77.0.1", "10.77.0.2")

_numbers = itertools.count()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=BOUND)


class Part:
    """A process in a namespace that says on stdout what happens, a line of JSON each."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.said: list[dict[str, Any]] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def line(self) -> str:
        line = self._lines.get(timeout=BOUND)
        if line is None:
            assert self.process.stderr is not None
            pytest.fail(f"it ended; it had said {self.said}, {self.process.stderr.read()}")
        return line

    def until(self, event: str) -> dict[str, Any]:
        """What it says of the next such event."""
        while True:
            said = json.loads(self.line())
            self.said.append(said)
            if said["event"] == event:
                return said

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._thread.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                pass


class Network:
    """Namespaces `a` and `b`, with the addresses 10.77.0.1 and 10.77.0.2."""

    def __init__(self) -> None:
        # The process's number is in the names: three test suites may run at once.
        name = f"coro-ws-{os.getpid()}-{next(_numbers)}"
        self.names = (f"{name}-a", f"{name}-b")
        self.parts: list[Part] = []
        self.files = [Path(f"/etc/netns/{name}") for name in self.names]

    def open(self) -> None:
        for name in self.names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        self.relay = self._start([sys.executable, str(HERE / "relay.py"), *self.names])
        assert self.relay.line() == "ready\n"
        for name, own, other in zip(self.names, ADDRESSES, reversed(ADDRESSES), strict=True):
            ip("-n", name, "addr", "add", own, "peer", other, "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")

    def close(self) -> None:
        for part in self.parts:
            part.end()
        for name, folder in zip(self.names, self.files, strict=True):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=BOUND)
            shutil.rmtree(folder, ignore_errors=True)

    def again(self) -> None:
        """Close, and open as new."""
        self.close()
        self.__init__()  # type: ignore[misc]
        self.open()

    def _start(self, command: list[str]) -> Part:
        part = Part(command)
        self.parts.append(part)
        return part

    def start(self, where: int, what: str, **options: Any) -> Part:
        """A part in namespace 0 or 1."""
        python = [sys.executable, "-X", "dev", str(HERE / "part.py")]
        place = ["ip", "netns", "exec", self.names[where]]
        return self._start([*place, *python, what, json.dumps(options)])

    def cable(self, **how: Any) -> float:
        """Change how packets are carried; the time at which that held."""
        self.relay.tell(json.dumps(how))
        assert self.relay.line() == "ok\n"
        return time.monotonic()

    def resolve_with(self, where: int, text: str) -> None:
        """The namespace's resolv.conf."""
        self.files[where].mkdir(parents=True)
        (self.files[where] / "resolv.conf").write_text(text)


def _missing() -> str | None:
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    if shutil.which("ip") is None:
        return "no ip command (Debian's package iproute2)"
    if not os.path.exists("/dev/net/tun"):
        return "no /dev/net/tun"
    probe = f"coro-ws-{os.getpid()}-probe"
    try:
        ip("netns", "add", probe)
    except (subprocess.SubprocessError, OSError) as error:
        return f"no network namespaces here: {error}"
    ip("netns", "del", probe)
    return None


@pytest.fixture(scope="session")
def namespaces() -> None:
    missing = _missing()
    if missing is not None and os.environ.get("CI") and os.name == "posix" and os.geteuid() == 0:
        pytest.fail(missing)
    if missing is not None:
        pytest.skip(missing)


@pytest.fixture
def network(namespaces: None) -> Iterator[Network]:
    network = Network()
    try:
        network.open()
        yield network
    finally:
        network.close()
