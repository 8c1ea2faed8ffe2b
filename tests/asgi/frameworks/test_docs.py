"""Every example of docs/uvicorn.md runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging.config
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets

from coro_websocket import ConnectError, HandshakeError, connect

from .served import BOUND, PROTOCOL, Served, served

one_loop = pytest.mark.asyncio(loop_factories=["asyncio"])

PAGE = (Path(__file__).parents[3] / "docs" / "uvicorn.md").read_text()
BIN = Path(sys.executable).parent


def example(name: str) -> str:
    return PAGE.split(f"<!-- example: {name} -->\n```python\n")[1].split("```")[0]


def command(start: str) -> list[str]:
    """The page's command that begins so, with the program of this Python, and two workers."""
    [line] = re.findall(rf"^{re.escape(start)}.*$", PAGE, re.MULTILINE)
    words = line.replace("--workers 4", "--workers 2").split()
    words = [PROTOCOL if "coro_websocket.uvicorn" in word else word for word in words]
    return [sys.executable, "-m", *words]


@contextlib.contextmanager
def example_served(name: str, **settings: Any) -> Iterator[Served]:
    module = types.ModuleType(f"example_{name}")
    sys.modules[module.__name__] = module  # where frameworks look up what annotations name
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                logging.config, "dictConfig", lambda _: None
            )  # Litestar's, of this process
            exec(compile(example(name), f"docs/uvicorn.md: {name}", "exec"), module.__dict__)
        with served(module.app, **settings) as at:
            yield at
    finally:
        del sys.modules[module.__name__]


def test_no_example_is_left_out_here():
    here = Path(__file__).read_text()
    for name in re.findall("<!-- example: (.*) -->", PAGE):
        assert f'"{name}"' in here, name


@one_loop
@pytest.mark.parametrize("name", ["fastapi", "starlette", "litestar"])
async def test_each_framework_echoes(name):
    with example_served(name, lifespan="auto") as at:
        async with connect(f"{at.url}/echo") as (_, read, write):
            await write("hello")
            assert (await read()).payload == "hello"


@one_loop
async def test_python_socketio_echoes():
    with example_served("socketio") as at:
        async with connect(f"{at.url}/socket.io/?EIO=4&transport=websocket") as (_, read, write):
            await read()
            await write("40")
            await read()
            await write('420["say","hello"]')
            heard = {(await read()).payload, (await read()).payload}
            assert heard == {'42["said","hello"]', '430["everybody has heard it"]'}


@one_loop
async def test_who_has_no_token_is_refused():
    token = {"Authorization": "Bearer s3cret"}
    with example_served("token") as at:
        async with connect(f"{at.url}/rooms/blue", headers=token) as (_, read, write):
            await write("hello")
            said = '{"room":"blue","from":"member","text":"hello"}'
            assert (await read()).payload == said
        for path, code in (("/rooms/blue", 403), ("/closed", 401)):
            with pytest.raises(HandshakeError) as caught:
                async with connect(f"{at.url}{path}"):
                    pass
            assert caught.value.response.code == code


@one_loop
async def test_the_application_is_told_how_a_connection_has_ended(monkeypatch):
    told: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr("builtins.print", lambda text, **_: told.put(text))
    with example_served("disconnect") as at:
        connection = await websockets.connect(at.url)
        await connection.send(b"12345")
        assert await connection.recv() == "you sent 5 bytes"
        await connection.close(4000, "enough")
        assert told.get(timeout=BOUND) == "gone: 4000 enough"


# What is a program of its own


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the page's programs are, under the names that it gives them."""
    (tmp_path / "app.py").write_text(example("fastapi"))
    (tmp_path / "worker.py").write_text(example("gunicorn"))
    return tmp_path


def run(words: list[str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        words,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [*sys.path, str(folder)]))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


async def echoed(url: str) -> None:
    """uvicorn names its address before its workers listen there."""
    async with asyncio.timeout(BOUND):
        while True:
            with contextlib.suppress(ConnectError):
                async with connect(url) as (_, read, write):
                    await write("hello")
                    assert (await read()).payload == "hello"
                    return
            await asyncio.sleep(0.02)


async def echoed_by(words: list[str], folder: Path) -> None:
    """The program says where it listens, echoes, and ends by SIGTERM with status 0."""
    with run(words, folder) as process:
        watchdog = threading.Timer(BOUND, process.kill)
        watchdog.start()
        try:
            said = ""
            for line in process.stdout:
                said += line
                if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                    break
            assert found, said
            await echoed(f"ws://127.0.0.1:{found[1]}/echo")
            process.send_signal(signal.SIGTERM)
            said += process.communicate()[0]
            assert process.returncode in (0, -signal.SIGTERM), said
            assert "Traceback" not in said
        finally:
            watchdog.cancel()
            process.kill()


@one_loop
async def test_uvicorns_command_serves_an_application_of_channels(folder):
    (folder / "app.py").write_text(example("channels"))  # it can be set up once in a process
    await echoed_by([*command("uvicorn app:app --ws"), "--port", "0"], folder)


@pytest.mark.deep
@one_loop
async def test_uvicorns_workers_serve_the_application(folder):
    await echoed_by([*command("uvicorn app:app --workers"), "--port", "0"], folder)


@pytest.mark.deep
@one_loop
async def test_gunicorns_workers_serve_the_application(folder):
    await echoed_by([*command("gunicorn"), "--bind", "127.0.0.1:0"], folder)


@one_loop
async def test_a_program_serves_the_application(folder):
    code = example("run").replace("port=8000", "port=0")
    await echoed_by([sys.executable, "-c", code], folder)


@one_loop
async def test_a_test_runs_against_a_served_application(folder):
    with run([sys.executable, "-c", example("testing")], folder) as process:
        said, _ = process.communicate(timeout=BOUND)
    assert (process.returncode, said) == (0, "hello\n")
