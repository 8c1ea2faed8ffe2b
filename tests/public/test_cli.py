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
BOUND = 60


def run(*arguments, given="", **more):
    return subprocess.run(
        [*COMMAND, *arguments], input=given, capture_output=True, text=True, timeout=BOUND, **more
    )


def send(url, given, *arguments, **more):
    """`connect`, without the wait for servers that think before they answer."""
    return run("connect", "--wait", "0", *arguments, url, given=given, **more)


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
        done = send(url, "one\ntwo ✓\n\nlast, without an end")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "one\ntwo ✓\n\nlast, without an end\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_cleanly(number):
    with serving() as (_, server):
        server.send_signal(number)
        assert server.wait(timeout=BOUND) == 0


def test_tls_and_insecure(certificates):
    with serving("--cert", certificates.cert_path, "--key", certificates.key_path) as (url, _):
        done = send(url, "x\n")
        assert done.returncode == 1
        assert "not accepted" in done.stderr
        done = send(url, "x\n", "--insecure")
        assert (done.returncode, done.stdout) == (0, "x\n")


def test_a_unix_socket(tmp_path):
    with serving("--path", str(tmp_path / "s")) as (url, _):
        assert send(url, "x\n").stdout == "x\n"


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


async def communicate(server, given, *arguments):
    """`connect` to a server of this process: status, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        "connect",
        *arguments,
        server.url,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    stdout, stderr = await process.communicate(given)
    return process.returncode, stdout.decode(), stderr.decode()


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize(
    ("end", "status", "said"),
    [
        ("1000", 0, ""),
        ("1001", 0, ""),
        ("4000", 1, "4000 (private use): nö"),
        ("1011", 1, "1011 (internal error): nö"),
        ("drop", 1, "without"),
        ("too large", 1, "1009"),
    ],
)
async def test_the_close_code_decides_the_exit_status_of_a_pipe(end, status, said):
    async def handler(req, read, write):
        if end == "too large":
            async for _ in read:
                pass
            return
        msg = await read()
        await write(f"got {msg.payload}")
        if end == "drop":
            req.socket.shutdown()
        else:
            await write.close(int(end), "nö")

    limit = 1024 * 1024
    given = b"x" * (2 * limit) if end == "too large" else b"x\n"
    async with serve(handler, max_message_size=limit) as server, asyncio.timeout(BOUND):
        # Whether it is our Close or the server's that comes first.
        for wait in ("0", "1"):
            done, stdout, stderr = await communicate(server, given, "--wait", wait)
            assert done == status, stderr
            assert said in stderr
            assert (stderr == "") == (status == 0)
            if end not in ("drop", "too large"):  # what is dropped may take all with it
                assert stdout == "got x\n"


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_an_answer_that_takes_a_while_is_printed():
    async def handler(req, read, write):
        async for msg in read:
            await asyncio.sleep(0.2)
            await write(f"answer to {msg.payload}")

    async with serve(handler) as server, asyncio.timeout(BOUND):
        done, stdout, stderr = await communicate(server, b"hi\n")
        assert (done, stdout, stderr) == (0, "answer to hi\n", "")


def test_input_that_is_not_utf_8_is_an_error_behind_what_came_before():
    with serving() as (url, _):
        done = send(url, "fine\r\n\udcff\udcfe\nnever\n", errors="surrogateescape")
        assert (done.returncode, done.stdout) == (1, "fine\n")
        assert "line 2 of the input is not UTF-8" in done.stderr
        assert "Traceback" not in done.stderr


def test_no_standard_input_is_its_end():
    with serving() as (url, _):
        command = " ".join([*COMMAND, "connect", "--wait", "0", url, "<&-"])
        done = subprocess.run(command, shell=True, capture_output=True, timeout=BOUND)
        assert (done.returncode, done.stderr) == (0, b"")


def test_input_that_cannot_be_read_is_an_error(tmp_path):
    directory = os.open(tmp_path, os.O_RDONLY)
    with serving() as (url, _):
        done = subprocess.run(
            [*COMMAND, "connect", url], stdin=directory, capture_output=True, timeout=BOUND
        )
    os.close(directory)
    assert done.returncode == 1
    assert b"directory" in done.stderr
    assert b"Traceback" not in done.stderr


def test_output_that_cannot_show_a_character_shows_its_number():
    with serving() as (url, _):
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        done = subprocess.run(
            [*COMMAND, "connect", "--wait", "0", url],
            input="é\n".encode(),
            capture_output=True,
            env=environment,
            timeout=BOUND,
        )
        assert (done.returncode, done.stdout) == (0, b"\\xe9\n")
        done = subprocess.run([*COMMAND, "demo"], capture_output=True, env=environment)
        assert (done.returncode, done.stderr) == (0, b"")


def test_output_that_nobody_reads_ends_it_quietly():
    with serving() as (url, _):
        command = f"(echo a; sleep 0.3; echo b) | {' '.join(COMMAND)} connect {url} | true"
        done = subprocess.run(command, shell=True, capture_output=True, timeout=BOUND)
        assert done.stderr == b""


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["connect", "http://h/"], 2, "it must be ws"),
        (["connect", "--timeout", "-1", "ws://h/"], 2, "timeout"),
        (["connect", "--timeout", "x", "ws://h/"], 2, "timeout"),
        (["connect", "--wait", "-1", "ws://h/"], 2, "0 or more"),
        (["connect", "--header", "Bad Name: x", "ws://h/"], 2, "header name"),
        (["connect", "--subprotocol", "a b", "ws://h/"], 2, "subprotocol"),
        (["connect", "--insecure", "ws://h/"], 2, "wss://"),
        (["serve", "--echo", "--port", "99999"], 2, "0 to 65535"),
        (["serve", "--echo", "--host", "h", "--path", "p"], 2, "host"),
        (["serve", "--echo", "--cert", "/no/file"], 2, "cert"),
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
    text = (Path(__file__).parents[2] / document).read_text()
    return text.split(f"<!-- example: {name} -->\n```python\n")[1].split("```")[0]


@pytest.mark.parametrize(
    ("document", "name", "printed"),
    [
        ("README.md", "context", "text\nb'\\x00\\x01'\nMessage('one message in two fragments'"),
        ("docs/porting.md", "stacking", "over a pipe\nNone\n"),
        ("docs/keepalive.md", "ping-message", """Message('{"op": "pong"}'"""),
        ("docs/reconnection.md", "reconnect", "['news', 'news', 'news']\n"),
        ("docs/reconnection.md", "tokens", "Bearer fresh\n"),
        ("docs/testing-programs.md", "pair", "passed\n"),
        ("docs/testing-programs.md", "fake", "first\n1006\n"),
        ("docs/testing-programs.md", "echo", "1000\n"),
        ("docs/testing-programs.md", "tls", "secret\n"),
        ("docs/broadcast.md", "rooms", "1 here\n2 here - 2 here\nDinner is ready\n"),
        ("docs/broadcast.md", "slow", "1 waits, True\nthe newest has come\n"),
        ("docs/connections.md", "who", "/news 127.0.0.1 1\n4000\n"),
        ("docs/connections.md", "proxies", "203.0.113.5 by wss\n"),
        ("docs/connections.md", "limits", "429 True\n"),
        ("docs/flow.md", "stream", "588890 characters\n"),
        ("docs/threads.md", "threads", "20.5 20.7\n"),
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
