"""Whether the hot path executes more instructions than another commit's: where clocks are noisy.

    python benchmarks/instructions.py [COMMIT] [--most RATIO] [--only WORKLOAD]

Builds this tree in place, and COMMIT (where it left main, if that says no more) under
build/compare, with the Python that runs this and its Cython. Counts each workload's instructions
with valgrind, for two numbers of messages: the difference is what messages cost, without the
start of the program. The counts repeat to 1 %, most to 0.3 %, however busy the machine is. The
kernel's instructions are not in them, nor is what caches and branch prediction make of them:
benchmarks/compare.py measures time. Fails if a workload needs more by more than RATIO.

Two things are set aside. The clock of the event loop stands still: under valgrind each message
takes so long that timers fire which otherwise hardly ever do. The garbage collector is off: when
it runs depends on what was imported before.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from compare import BUILD, ROOT, git, source_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONNECTIONS = 30
PAYLOAD = bytes(range(256))


# The workloads: each sends so many messages on each of its connections, and the process ends


async def echo(messages: int, connections: int) -> None:
    from coro_websocket import connect, serve

    async def answer(_: Any, read: Any, write: Any) -> None:
        async for message in read:
            await write(message.payload)

    async def ask(read: Any, write: Any) -> None:
        for _ in range(messages):
            await write(PAYLOAD)
            await read()

    server = await serve(answer, compression=None)
    ends = [await connect(server.url, compression=None) for _ in range(connections)]
    if connections == 1:
        await ask(*ends[0][1:])  # in this task, as most programs do it
    else:
        await asyncio.gather(*(ask(read, write) for _, read, write in ends))
    os._exit(0)


async def send(messages: int) -> None:
    from coro_websocket import connect, serve

    async def take(_: Any, read: Any, write: Any) -> None:
        async for message in read:
            if not message.len:
                await write("all")

    server = await serve(take, compression=None)
    _, read, write = await connect(server.url, compression=None)
    for _ in range(messages):
        await write(PAYLOAD)
    await write("")
    await read()
    os._exit(0)


def engine_receive(messages: int) -> None:
    from measured_engine import Engine

    from coro_websocket import Message, codec

    engine = Engine(True)
    stream = codec.encode(Message(PAYLOAD[:32])) * 100
    for _ in range(messages // 100):
        engine.receive(stream)
        while engine.next_message() is not None:
            pass
    os._exit(0)


def engine_send(messages: int) -> None:
    from measured_engine import Engine

    from coro_websocket import Message

    engine = Engine(True)
    message = Message(PAYLOAD)
    for _ in range(messages):
        engine.send_message(message)
        engine.data_to_send()
    os._exit(0)


def on_a_loop(workload: Callable[..., Any], *arguments: int) -> Callable[[int], None]:
    def run(messages: int) -> None:
        loop = asyncio.new_event_loop()
        vars(loop)["time"] = itertools.repeat(0.0).__next__
        loop.run_until_complete(workload(messages, *arguments))

    return run


WORKLOADS = {  # what it is called: what runs, how many connections, fewer and more messages on each
    "echo 256 B, 30 connections": (on_a_loop(echo, CONNECTIONS), CONNECTIONS, 50, 150),
    "echo 256 B, one connection": (on_a_loop(echo, 1), 1, 500, 1500),
    "send and receive 256 B": (on_a_loop(send), 1, 5_000, 25_000),
    "engine: receive 32 B": (engine_receive, 1, 20_000, 120_000),
    "engine: send 256 B": (engine_send, 1, 20_000, 120_000),
}


# Counting


def build(source: Path) -> None:
    """Compile what has changed of a tree since it was last built, for this Python."""
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"building {source} failed:\n{done.stdout}{done.stderr}")
    subprocess.run([sys.executable, "-m", "compileall", "-q", "src"], cwd=source, check=True)


def instructions(source: Path, name: str, messages: int) -> int:
    """What a process that runs the workload with a tree's package executes."""
    counting = ["valgrind", "--tool=cachegrind", "--cache-sim=no"]
    counting += ["--cachegrind-out-file=/dev/null"]
    this = [sys.executable, str(ROOT / "benchmarks" / "instructions.py")]
    environment = os.environ | {
        "PYTHONPATH": str(source / "src"),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",  # else the first run has more to do than the second
    }
    done = subprocess.run(
        [*counting, *this, "--run", name, str(messages)],
        env=environment,
        capture_output=True,
        text=True,
    )
    found = re.search(r"I +refs: +([\d,]+)", done.stderr)
    if done.returncode != 0 or found is None:
        sys.exit(f"{name} failed with {source}:\n{done.stdout}{done.stderr}")
    return int(found[1].replace(",", ""))


def per_message(source: Path, name: str) -> float:
    _, connections, fewer, more = WORKLOADS[name]
    difference = instructions(source, name, more) - instructions(source, name, fewer)
    return difference / ((more - fewer) * connections)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("commit", nargs="?", help="what to compare with; where this left main")
    parser.add_argument("--most", type=float, default=1.03, metavar="RATIO")
    parser.add_argument("--only", default="", metavar="WORKLOAD", help="those whose name has this")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)  # in the process that is counted
    options = parser.parse_args()
    if options.run:
        name, messages = options.run
        gc.disable()
        WORKLOADS[name][0](int(messages))
        return 0
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is needed, and is not installed")
    commit = git("rev-parse", options.commit or git("merge-base", "main", "HEAD"))
    BUILD.mkdir(parents=True, exist_ok=True)
    other = source_of(commit)
    build(other)
    build(ROOT)
    more_now = []
    print(f"{'instructions per message':30} {commit[:12]:>12} {'now':>12}  ratio")
    for name in WORKLOADS:
        if options.only not in name:
            continue
        before, now = per_message(other, name), per_message(ROOT, name)
        more_now += [name] if now / before > options.most else []
        print(f"{name:30} {before:12,.1f} {now:12,.1f}  {now / before:5.3f}", flush=True)
    if more_now:
        print(f"more than {options.most:g} times as many: {', '.join(more_now)}")
    return 1 if more_now else 0


if __name__ == "__main__":
    sys.exit(main())
