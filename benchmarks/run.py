"""Measure this library and its peers in one run, and say who costs what.

    python benchmarks/run.py                   everything; 45 minutes with --rounds 2 --seconds 0.4
    python benchmarks/run.py --quick           the rows of the README
    python benchmarks/run.py --servers         what serving costs: echo, opening, delay, broadcast
    python benchmarks/run.py --only "receive"  the rows whose name has this in it, again
    python benchmarks/run.py --who "/ uvloop"  the contestants whose name has this in it
    python benchmarks/run.py --publish         also into README.md and docs/benchmarks; --only and
                                               --servers leave the rows there that are not measured

Each measurement is a fresh process, the client pinned to one core and the server to another;
the rounds are interleaved, because machines are noisy: only ratios within one run mean
something. The other end is always the same program in C, which costs less than any of them.
CPU per message is the figure to compare: with few connections the wake-up latency between two
cores hides what a message costs.

Leaves results.json, table.md and plots in build/benchmarks, or where --out says.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import ssl
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asgi_servers
import native
import report

if TYPE_CHECKING:
    from collections.abc import Iterator

KIB, MIB = 1024, 1024 * 1024
SETTLED = 1.0  # seconds after which the last handshakes are over
HERE = Path(__file__).resolve().parent
LOOPS = ("asyncio", "uvloop")
PACKAGES = (
    *("coro-websocket", "picows", "websockets", "aiohttp", "websocket-client", "websocket-rs"),
    *("uvicorn", "wsproto", "httptools", "granian", "hypercorn", "uvloop", "zlib-ng"),
)


@dataclass(frozen=True)
class Row:
    """One line of the table: what is done, over what."""

    role: (
        str  # client, server, uvicorn (and what runs ASGI applications beside it), delay or memory
    )
    work: str
    connections: int = 1
    size: int = 256
    tls: bool = False
    deflate: bool = False
    quick: bool = False
    plot: bool = False  # published, besides those of the README
    at_once: int = 1  # connections that are being opened

    @property
    def name(self) -> str:
        words = ["server"] if self.role in ("server", "delay") else []
        words.append(f"uvicorn: {self.work}" if self.role == "uvicorn" else self.work)
        if self.work in ("echo", "receive", "send", "broadcast"):
            words.append(in_words(self.size))
        if self.connections > 1 or self.work == "echo":
            words.append(f"{self.connections:,} connection" + "s" * (self.connections > 1))
        words += [f"{self.at_once} at once"] * (self.at_once > 1)
        words += ["TLS"] * self.tls + ["deflate"] * self.deflate
        return ", ".join(words)


def in_words(size: int) -> str:
    for factor, unit in ((MIB, "MiB"), (KIB, "KiB")):
        if size >= factor:
            return f"{size // factor} {unit}"
    return f"{size} B"


def rows() -> Iterator[Row]:
    for connections in (1, 30, 1000):
        for size in (32, 256, 8 * KIB, 100 * KIB, MIB):
            if connections * size <= 128 * MIB:  # a gigabyte in flight measures the memory
                quick = (connections, size) == (30, 256)
                yield Row("client", "echo", connections, size, quick=quick)
    for connections in (1, 30, 1000):
        yield Row("client", "echo", connections, 256, tls=True, quick=connections == 30)
    yield Row("client", "echo", 30, 100 * KIB, tls=True)
    for connections in (1, 30, 1000):
        yield Row("client", "echo", connections, 4 * KIB, deflate=True, quick=connections == 30)
    for work in ("receive", "send"):
        for size in (256, 8 * KIB, 100 * KIB):
            yield Row("client", work, 1, size, quick=size != 8 * KIB)
        yield Row("client", work, 1, 256, tls=True)
        yield Row("client", work, 1, 100 * KIB, tls=True)
        yield Row("client", work, 1, 4 * KIB, deflate=True)
    yield Row("client", "setup")
    yield Row("client", "setup", tls=True)
    yield Row("server", "echo", 1, 256)
    yield Row("server", "echo", 30, 256)
    yield Row("server", "echo", 1000, 256, quick=True)
    yield Row("server", "echo", 30, 100 * KIB)
    yield Row("server", "echo", 30, 256, tls=True)
    yield Row("server", "echo", 1000, 256, tls=True)
    yield Row("server", "echo", 30, 4 * KIB, deflate=True)
    yield Row("server", "setup", at_once=8, plot=True)
    yield Row("server", "setup", at_once=8, tls=True, plot=True)
    yield Row("delay", "echo while others connect", 5000, at_once=256, plot=True)
    yield Row("server", "broadcast", 10_000, 256, plot=True)
    yield Row("server", "broadcast", 10_000, 256, deflate=True, plot=True)
    yield Row("uvicorn", "echo", 100, 256, plot=True)
    yield Row("memory", "idle", 10_000, quick=True)
    yield Row("memory", "idle", 10_000, tls=True)
    yield Row("memory", "idle", 10_000, deflate=True)


@dataclass
class Bench:
    """What the measurements share."""

    seconds: float
    programs: Path
    cert: str
    key: str
    ca: str

    def c_server(self, tls: bool) -> contextlib.AbstractContextManager[tuple[int, int]]:
        program = str(native.compiled("server", self.programs))
        return native.server([program, self.cert, self.key] if tls else [program])

    def c_client(self, row: Row, work: str, port: int, path: str, server: int = 0) -> list[str]:
        """The client in C; it also tells what the process `server` has used meanwhile."""
        program = str(native.compiled("client", self.programs))
        arguments = (work, port, path, row.connections, row.size, self.seconds)
        switches = (int(row.tls), int(row.deflate), server)
        return [program, *map(str, arguments), *map(str, switches)]

    def client(self, row: Row, library: str, loop: str, port: int) -> dict[str, float]:
        path = {"receive": f"/source?{row.size}", "send": "/sink"}.get(row.work, "/echo")
        if library == "C":
            return native.figures(self.c_client(row, row.work, port, path))
        library, batch, _ = library.partition(" batch")
        work = "batch" if batch else row.work
        scheme, trust = ("wss", ["--ca", self.ca]) if row.tls else ("ws", [])
        return native.figures(
            native.python(
                "clients.py",
                *(library, loop, work, f"{scheme}://127.0.0.1:{port}{path}"),
                *("--connections", row.connections, "--size", row.size),
                *("--seconds", self.seconds, *trust, *(["--deflate"] * row.deflate)),
            )
        )

    def server(self, row: Row, library: str, loop: str) -> dict[str, float]:
        """What serving costs, under the load of the client in C."""
        options = ["--cert", self.cert, "--key", self.key] if row.tls else []
        options += ["--deflate"] * row.deflate + ["--broadcast"] * (row.work == "broadcast")
        with native.server(native.python("servers.py", library, loop, *options)) as (pid, port):
            if row.role == "memory":
                return self.memory(row, pid, port)
            if row.role == "delay":
                program = str(native.compiled("rush", self.programs))
                rush = (program, port, "/echo", row.connections, row.at_once)
                return native.figures([*map(str, rush)])
            command = self.c_client(row, row.work, port, "/echo", pid)
            result = native.figures(command, processes=row.at_once)
            result["cpu"] = result.pop("server_cpu")
            return result

    def memory(self, row: Row, pid: int, port: int) -> dict[str, float]:
        """What each connection adds that has echoed one message, the first ones left out."""
        warm = replace(row, connections=50)
        with native.speaking(self.c_client(warm, "idle", port, "/echo"), native.CLIENT):
            time.sleep(SETTLED)
            before = native.memory_of(pid)
            with native.speaking(self.c_client(row, "idle", port, "/echo"), native.CLIENT):
                time.sleep(SETTLED)
                return {"bytes": (native.memory_of(pid) - before) / row.connections}


def contestants(row: Row) -> Iterator[tuple[str, str]]:
    """Who takes part, on which loop."""
    if row.role == "uvicorn":
        yield from ((library, loop) for loop in LOOPS for library in asgi_servers.SERVERS)
        return
    if row.role == "client" and not row.deflate:
        yield "C", "none"
    libraries = ["coro-websocket", "picows", "picows (awaited)", "websockets", "aiohttp"]
    if row.role == "client":
        if row.work != "send":  # its client does not tell when to wait
            libraries.append("websocket-rs")
        if row.work == "receive":
            libraries.insert(1, "coro-websocket batch")
    if row.plot or row.role == "memory" or (row.connections == 1000 and row.role == "server"):
        libraries += [each for each in asgi_servers.SERVERS if each.startswith("uvicorn")]
    if row.deflate and row.role != "memory":
        libraries[1:1] = ["coro-websocket (zlib-ng)", "coro-websocket (level 1)"]
    for loop in LOOPS:
        for library in libraries:
            if not (row.deflate and library == "picows"):  # has no permessage-deflate
                yield library, loop
    if row.role == "client" and row.connections == 1 and not row.deflate:
        yield "websocket-client", "none"


@contextlib.contextmanager
def certificates() -> Iterator[tuple[str, str, str]]:
    """The paths of a certificate for 127.0.0.1, of its key and of the authority."""
    import trustme

    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in ("cert.pem", "key.pem", "ca.pem")]
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(paths[0])
        issued.private_key_pem.write_to_path(paths[1])
        authority.cert_pem.write_to_path(paths[2])
        yield paths[0], paths[1], paths[2]


def measured(bench: Bench, row: Row, rounds: int, wanted: str = "") -> dict[str, Any]:
    """A row, with its figures: for each contestant a list, in the order of the rounds.

    Who fails takes part no more; the row says who that was, and why.
    """
    figures: dict[str, list[dict[str, float]]] = {}
    failed: dict[str, str] = {}
    who = [each for each in contestants(row) if wanted in " / ".join(each)]
    for turn in range(1 if row.role == "memory" else rounds):
        with (
            bench.c_server(row.tls) if row.role == "client" else contextlib.nullcontext((0, 0))
        ) as (_, port):
            first = turn * len(who) // rounds  # nobody always comes behind the same one
            for library, loop in who[first:] + who[:first]:
                name = f"{library} / {loop}"
                if name in failed:
                    continue
                try:
                    if row.role == "client":
                        result = bench.client(row, library, loop, port)
                    else:
                        result = bench.server(row, library, loop)
                except native.Failed as error:
                    failed[name] = str(error)
                    print(f"  {name} failed: {error}", file=sys.stderr, flush=True)
                else:
                    figures.setdefault(name, []).append(result)
    return {
        "name": row.name,
        **asdict(row),
        "figures": figures,
        "failed": failed,
    }


def machine() -> dict[str, Any]:
    versions = {}
    missing = []
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "date": time.strftime("%Y-%m-%d"),
        "platform": platform.platform(),
        "processor": processor,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions | {"OpenSSL": ssl.OPENSSL_VERSION.split()[1]},
        "missing": missing,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only the rows of the README")
    parser.add_argument("--servers", action="store_true", help="only rows about serving")
    parser.add_argument("--only", nargs="+", help="only rows whose name has one of these in it")
    parser.add_argument("--who", default="", help="only contestants whose name has this in it")
    parser.add_argument("--rounds", type=int, default=3, help="thrice as many for the README")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each measurement")
    parser.add_argument("--out", type=Path, default=HERE.parent / "build" / "benchmarks")
    parser.add_argument("--publish", action="store_true", help="also into README and docs")
    options = parser.parse_args()
    if options.publish and options.quick:
        parser.error("--publish is for every row: --quick would take the others out of the docs")
    if len(native.CORES) < 2:
        print("one processor: nothing is pinned, and little can be compared", file=sys.stderr)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # for 10,000 connections
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    options.out.mkdir(parents=True, exist_ok=True)
    saved = options.out / "results.json"
    results: dict[str, Any] = {"runs": [], "rows": []}
    if options.only or options.servers:  # the other rows stay
        before = saved if saved.exists() or not options.publish else report.DOCS / "results.json"
        if before.exists():
            results = json.loads(before.read_text())
    run = {"machine": machine(), "rounds": options.rounds, "seconds": options.seconds}
    if run not in results["runs"]:
        results["runs"].append(run)
    measured_rows: dict[str, Any] = {row["name"]: row for row in results["rows"]}
    with certificates() as (cert, key, ca):
        bench = Bench(options.seconds, options.out / "programs", cert, key, ca)
        for row in rows():
            if options.quick and not row.quick:
                continue
            if options.servers and row.role == "client":
                continue
            if options.only and not any(each in row.name for each in options.only):
                continue
            print(row.name, file=sys.stderr, flush=True)
            rounds = options.rounds * 3 if row.quick or row.role == "uvicorn" else options.rounds
            measured_rows[row.name] = {
                **measured(bench, row, rounds, options.who),
                "run": results["runs"].index(run),
            }
            order = [each.name for each in rows() if each.name in measured_rows]
            results["rows"] = [measured_rows[name] for name in order]
            saved.write_text(json.dumps(results, indent=1))
    report.write(results, options.out)
    if options.publish:
        report.publish(results)
    print(report.table(results))
    ours = (each for row in results["rows"] for each in row["failed"] if report.OURS in each)
    if failed := sorted(set(ours)):
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
