"""The command: demo, connect and serve, as processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from coro_websocket import serve

COMMAND = [sys.executable, "-m", "coro_websocket"]
BOUND = 20


def run(*arguments, given=""):
    return subprocess.run(
        [*COMMAND, *arguments], input=given, capture_output=True, text=True, timeout=BOUND
    )


@contextlib.contextmanager
def serving(*arguments):
    server = subprocess.Popen(
        [*COMMAND, "serve", "--echo", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        yield server.stdout.readline().split()[-1], server
    finally:
        server.terminate()
        server.communicate(timeout=BOUND)


def test_demo_prints_each_exchange_and_exits_with_0():
    done = run("demo")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for what in ("text", "binary", "three fragments", "1 MiB", "ping", "closed: 1000"):
        assert what in done.stdout
    assert done.stdout.count("round trip") == 6


def test_lines_become_messages_and_messages_lines_in_a_pipe():
    with serving() as (url, _):
        done = run("connect", url, given="one\ntwo ✓\n\nlast, without an end")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "one\ntwo ✓\n\nlast, without an end\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_cleanly(number):
    with serving() as (_, server):
        server.send_signal(number)
        assert server.wait(timeout=BOUND) == 0


def test_tls_and_insecure(certificates):
    with serving("--cert", certificates.cert_path, "--key", certificates.key_path) as (url, _):
        done = run("connect", url, given="x\n")
        assert done.returncode == 1
        assert "not accepted" in done.stderr
        done = run("connect", "--insecure", url, given="x\n")
        assert (done.returncode, done.stdout) == (0, "x\n")


def test_a_unix_socket(tmp_path):
    with serving("--path", str(tmp_path / "s")) as (url, _):
        assert run("connect", url, given="x\n").stdout == "x\n"


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize(("code", "status"), [(1000, 0), (1001, 0), (4000, 1), (1011, 1)])
async def test_the_close_code_decides_the_exit_status_though_stdin_stays_open(code, status):
    seen = {}

    async def handler(req, read, write):
        seen["header"] = req.get("X-Test")
        seen["subprotocol"] = req.subprotocol
        await write.close(code, "why")

    async with serve(handler, subprotocols=["chat"]) as server, asyncio.timeout(BOUND):
        keep_open, stdin = os.pipe()
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            "connect",
            "--header",
            "X-Test: yes",
            "--subprotocol",
            "chat",
            server.url,
            stdin=keep_open,
            stderr=subprocess.PIPE,
        )
        os.close(keep_open)
        _, stderr = await process.communicate()
        os.close(stdin)
        assert process.returncode == status
        assert (b"why" in stderr) == (status == 1)
        assert seen == {"header": "yes", "subprotocol": "chat"}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["connect", "http://h/"], 1, "it must be ws"),
        (["connect", "ws://127.0.0.1:1/"], 1, "cannot connect"),
        (["connect", "--header", "no colon", "ws://h/"], 2, "NAME: VALUE"),
        (["connect"], 2, "URL"),
        (["serve"], 2, "--echo"),
        ([], 2, "COMMAND"),
        (["serve", "--echo", "--host", "256.1.1.1"], 1, "coro-websocket:"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(arguments, status, said):
    done = run(*arguments)
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_version_and_help():
    assert run("--version").stdout.startswith("coro-websocket ")
    assert "demo" in run("--help").stdout


# The examples in the documents


def example(document, name):
    text = (Path(__file__).parent.parent / document).read_text()
    return text.split(f"<!-- example: {name} -->\n```python\n")[1].split("```")[0]


@pytest.mark.parametrize(
    ("document", "name", "printed"),
    [
        ("README.md", "context", "text\nb'\\x00\\x01'\nMessage('one message in two fragments'"),
        ("docs/porting.md", "stacking", "over a pipe\nNone\n"),
    ],
)
def test_an_example_runs_as_printed(document, name, printed):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example(document, name)],
        capture_output=True,
        text=True,
        timeout=BOUND,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(printed)


def test_the_echo_example_runs_against_a_server_of_ours():
    with serving() as (url, _):
        port = url.rstrip("/").rpartition(":")[2]
        code = (
            example("README.md", "echo")
            .replace('"echo.websocket.org"', '"127.0.0.1"')
            .replace("port=443", f"port={port}")
            .replace("tls=True", "tls=False")
        )
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            capture_output=True,
            text=True,
            timeout=BOUND,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "Host responded with b'Hello There!'\nConnection closed!\n"
