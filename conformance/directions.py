"""One side of the library against the suite: two processes, started, watched and ended."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from environments import Deadline, python2_environ, short
from ports import reserved_port
from verdict import ALL_CASES, Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from worlds import World

AGENT = "coro-websocket"
FAST_SUITE = Path(__file__).resolve().parent / "python2"
TIME_TO_LISTEN = 60.0


class Broken(Exception):
    """The run of a direction has to be broken off."""


class Direction:
    """The library in a world as `role`, "client" or "server".

    Of its two processes the first listens until it is ended, the second ends by itself once
    all cases have run. Every file is left in `output`: the report in a folder that is named
    as the world and the role, what the processes said in `logs`.

    fast: both compress with level 1, where the library is free to.
    """

    def __init__(
        self,
        world: World,
        role: str,
        *,
        suite: Path,
        python: str,
        cases: list[str],
        output: Path,
        fast: bool = False,
    ) -> None:
        self.world = world
        self.role = role
        self.testee = f"{world.name} {role}"
        self.suite = suite
        self.python = python
        self.cases = cases
        self.fast = fast
        self.report_folder = output / f"{world.name}-{role}"
        self.logs = output / "logs"
        self.seconds = 0.0
        self.problem = ""
        self._started = time.monotonic()
        self._held = contextlib.ExitStack()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, deadline: Deadline) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        if self.role == "client":
            port = self._held.enter_context(reserved_port())
            url = f"ws://127.0.0.1:{port}"
            self._start_suite("fuzzingserver", {"url": url})
            self._wait_until(lambda: _is_listening(port), deadline)
            self._start_testee("client", url, AGENT)
        else:
            self._start_testee("server")
            self._wait_until(lambda: self._server_url() != "", deadline)
            servers = [{"agent": AGENT, "url": self._server_url()}]
            self._start_suite("fuzzingclient", {"servers": servers})

    def ended(self) -> bool:
        """Whether all cases have run. Raises Broken if a process failed or left too early."""
        for name, process in self._processes.items():
            status = process.poll()
            if status:
                raise Broken(
                    f"the {name} failed with status {status}, see {short(self._log(name))}"
                )
        listening, last = self._processes.values()
        if last.returncode is None and listening.returncode is not None:
            raise Broken(f"what was to listen has ended, see {short(self.logs)}")
        self.seconds = time.monotonic() - self._started
        return last.returncode is not None

    def silent_for(self) -> float:
        """For how many seconds the suite, which names each case that it begins, said nothing."""
        return time.time() - self._log("suite").stat().st_mtime

    def progress(self) -> tuple[int, int]:
        """How many cases have begun, of how many that the suite has understood."""
        said = self._said("suite")
        asked = re.search(r"will run (\d+) test cases", said)
        return said.count("Running test case ID"), int(asked[1]) if asked else 0

    def report(self) -> Report:
        cases = {}
        with contextlib.suppress(FileNotFoundError):
            index = json.loads((self.report_folder / "index.json").read_text())
            cases = {
                case: (result["behavior"], result["behaviorClose"])
                for case, result in index.get(AGENT, {}).items()
            }
        asked = ALL_CASES if self.cases == ["*"] else self.progress()[1]
        return Report(self.testee, cases, asked, self.problem)

    def stop(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._held.close()

    # The processes

    def _start_suite(self, mode: str, spec: dict[str, object]) -> None:
        more = {
            "outdir": str(self.report_folder),
            "cases": self.cases,
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        path = self.logs / f"{self.report_folder.name}-spec.json"
        path.write_text(json.dumps(spec | more, indent=2))
        # Port 0: no web server beside the suite's own, which would be on a fixed port.
        command = [str(self.suite), "--mode", mode, "--spec", str(path), "--webport", "0"]
        more_of_path = {"PYTHONPATH": str(FAST_SUITE)} if self.fast else {}
        self._start("suite", command, python2_environ(**more_of_path))

    def _start_testee(self, *arguments: str) -> None:
        fast = ["--fast"] if self.fast else []
        self._start("testee", [self.python, "-u", self.world.path, *fast, *arguments])

    def _start(self, name: str, command: list[str], env: dict[str, str] | None = None) -> None:
        with self._log(name).open("wb") as output:
            self._processes[name] = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def _wait_until(self, listening: Callable[[], bool], deadline: Deadline) -> None:
        [(name, process)] = self._processes.items()
        until = time.monotonic() + min(TIME_TO_LISTEN, deadline.left())
        while not listening():
            if process.poll() is not None or time.monotonic() > until:
                raise Broken(f"the {name} does not listen, see {short(self._log(name))}")
            time.sleep(0.1)

    def _server_url(self) -> str:
        found = re.search(r"^ws://\S+$", self._said("testee"), re.MULTILINE)
        return found[0] if found else ""

    def _log(self, name: str) -> Path:
        return self.logs / f"{self.report_folder.name}-{name}.log"

    def _said(self, name: str) -> str:
        log = self._log(name)
        return log.read_text(errors="replace") if log.exists() else ""


def _is_listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False
