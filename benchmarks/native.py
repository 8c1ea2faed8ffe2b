"""The programs in C: compiled on the spot, and run on a core of their own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOURCES = Path(__file__).with_name("native")
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
CLIENT, SERVER = 0, -1  # which of them


class Failed(Exception):
    """A contestant that could not do its work, with its last words."""


def compiled(name: str, folder: Path) -> Path:
    """The program, compiled unless that has been done; needs OpenSSL's and zlib's headers."""
    sources = (SOURCES / f"{name}.c", SOURCES / "wire.h")
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    program = folder / f"{name}-{digest}"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["cc", "-O3", "-march=native", "-D_GNU_SOURCE", str(sources[0])]
        subprocess.run(
            [*command, "-Wno-unused-function", "-o", str(program), "-lssl", "-lcrypto", "-lz"],
            check=True,
        )
    return program


def pin(which: int) -> Callable[[], None] | None:
    """What puts a child process on this core, where the system can and there are two."""
    if len(CORES) < 2:
        return None
    return lambda: os.sched_setaffinity(0, {CORES[which]})


@contextlib.contextmanager
def speaking(command: list[str], core: int, seconds: float = 300) -> Iterator[tuple[int, str]]:
    """A program that prints a line once it is ready: its process, and that line."""
    with (
        tempfile.TemporaryFile("w+") as stderr,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            preexec_fn=pin(core),
        ) as process,
    ):
        assert process.stdout is not None
        watchdog = threading.Timer(seconds, process.kill)
        watchdog.start()
        try:
            line = process.stdout.readline()
            if not line:
                process.wait()
                stderr.seek(0)
                raise Failed(last_words(stderr.read(), process.returncode))
            yield process.pid, line
        finally:
            watchdog.cancel()
            process.kill()


@contextlib.contextmanager
def server(command: list[str]) -> Iterator[tuple[int, int]]:
    """A server: its process, and its port."""
    with speaking(command, SERVER) as (pid, line):
        yield pid, int(line)


def figures(command: list[str], seconds: float = 120, processes: int = 1) -> dict[str, float]:
    """What a client prints; of several at the same time, all messages and the mean of the rest."""
    end = time.monotonic() + seconds
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(processes):
            client = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=pin(CLIENT),
            )
            stack.enter_context(client)
            stack.callback(client.kill)
            clients.append(client)
        results = []
        for client in clients:
            try:
                stdout, stderr = client.communicate(timeout=max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise Failed(f"not done in {seconds:g} s") from None
            if client.returncode != 0 or not stdout:
                raise Failed(last_words(stderr, client.returncode))
            results.append(json.loads(stdout))
    figure = {name: statistics.fmean(each[name] for each in results) for name in results[0]}
    figure["messages"] *= processes
    if not figure["messages"]:
        raise Failed("no message came through")
    return figure


def last_words(stderr: str, status: int) -> str:
    lines = stderr.strip().splitlines()
    return lines[-1] if lines else f"exit status {status}"


def memory_of(pid: int) -> int:
    """The resident bytes of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmRSS")


def python(script: str, *arguments: Any) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name(script)), *map(str, arguments)]
