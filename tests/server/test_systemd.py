"""Sockets that systemd has opened, and telling it of our state: in processes made by hand."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import socket
import subprocess
import sys
import textwrap

import pytest
import websockets
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.raw_peer import BOUND

from coro_websocket import InvalidOption, serve, systemd_notify, systemd_sockets
from coro_websocket._server import systemd

# It does what systemd does: the sockets from descriptor 3 on, and its own process in LISTEN_PID.
LAUNCH = textwrap.dedent(
    """
    import os, sys
    given = [int(each) for each in sys.argv[1].split(",") if each]
    high = [os.dup2(each, 100 + index) for index, each in enumerate(given)]
    for index, each in enumerate(high):
        os.dup2(each, 3 + index)
        os.close(each)
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[2]])
    """
)
SHOW = """
import os
from coro_websocket import *
def show(sockets):
    print([(sock.fileno(), sock.getsockname()[1], os.get_inheritable(sock.fileno())) for sock in sockets])
"""


def launched(program, sockets=(), count=None, names=None):
    """What a program prints that was started with these sockets."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            LAUNCH,
            ",".join(str(sock.fileno()) for sock in sockets),
            SHOW + textwrap.dedent(program),
        ],
        pass_fds=[sock.fileno() for sock in sockets],
        env={
            **os.environ,
            "LISTEN_FDS": str(len(sockets)) if count is None else count,
            **({} if names is None else {"LISTEN_FDNAMES": names}),
        },
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.fixture
def listeners():
    found = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    yield found
    for listener in found:
        listener.close()


def port_of(sock):
    return sock.getsockname()[1]


def test_all_sockets_are_given_once_and_no_other_program_gets_them(listeners):
    printed = launched(
        """
        show(systemd_sockets())
        show(systemd_sockets())
        print([name for name in os.environ if name.startswith("LISTEN_")])
        """,
        listeners,
        names="a:b:c",
    )
    ports = [port_of(each) for each in listeners]
    given = [(3, ports[0], False), (4, ports[1], False), (5, ports[2], False)]
    assert printed == [str(given), "[]", "[]"]


def test_sockets_are_taken_by_name(listeners):
    printed = launched(
        """
        show(systemd_sockets("admin"))
        show(systemd_sockets(["ws", "admin"]))
        try:
            systemd_sockets("none")
        except InvalidOption as error:
            print(error.option, error)
        show(systemd_sockets())
        """,
        listeners,
        names="ws:admin",
    )
    ws, admin, unnamed = map(port_of, listeners)
    assert printed[0] == str([(4, admin, False)])
    assert printed[1] == str([(3, ws, False)])
    assert "systemd has passed no socket named 'none', only 'ws, admin, unknown'" in printed[2]
    assert printed[3] == str([(5, unnamed, False)])


def test_without_systemd_there_are_none(monkeypatch):
    monkeypatch.delenv("LISTEN_PID", raising=False)
    assert systemd_sockets() == []
    assert systemd_sockets("ws") == []
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert systemd_sockets() == []
    assert os.environ["LISTEN_FDS"] == "1"  # it is for the other process to take


@pytest.mark.parametrize("count", ["", "x", "-1", "9" * 10, "²"])
def test_a_wrong_number_of_sockets_is_an_error(count, monkeypatch):
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", count)
    with pytest.raises(InvalidOption, match="LISTEN_FDS must be"):
        systemd_sockets()


@given(
    count=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
    names=st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=20),
)
def test_whatever_the_environment_says_is_an_error_of_ours_or_nothing(count, names):
    """No descriptor from 3 on is a socket of somebody's: they are pretended not to be open."""
    environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count, "LISTEN_FDNAMES": names}

    def closed(*_):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "set_inheritable", closed)
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            assert systemd_sockets() == []
        except InvalidOption as error:
            assert error.option == "LISTEN_FDS"
        assert not environment.keys() & os.environ.keys()


def test_descriptors_that_are_not_there_or_no_sockets_are_named(monkeypatch):
    printed = launched(
        """
        try:
            systemd_sockets()
        except InvalidOption as error:
            print(error)
        """,
        count="50",
    )
    assert "descriptor 3 is not open" in printed[0]
    reading, writing = os.pipe()
    monkeypatch.setattr(systemd, "_passed", [("fifo", reading)])
    with pytest.raises(InvalidOption, match="not a socket"):
        systemd_sockets()
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(("names", "said"), [(1, "names"), ([1], "str")])
def test_wrong_names_are_refused(names, said):
    with pytest.raises(InvalidOption, match=said):
        systemd_sockets(names)


async def test_serve_takes_them_all(listeners, monkeypatch):
    passed = [(str(port_of(each)), each.detach()) for each in listeners]
    monkeypatch.setattr(systemd, "_passed", passed.copy())

    async def handler(req, read, write):
        await write(str(req.socket.getsockname()[1]))

    async with asyncio.timeout(BOUND), serve(handler, sock="systemd") as server:
        for port, _ in passed:
            async with websockets.connect(f"ws://127.0.0.1:{port}/") as client:
                assert await client.recv() == port
        assert len(server.sockets) == 3
    with pytest.raises(InvalidOption, match="no socket to this process"):
        serve(handler, sock="systemd")


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="without systemd")
@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_systemd_starts_a_server_with_the_first_connection():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = port_of(free)
    program = textwrap.dedent(
        """
        import asyncio
        from coro_websocket import serve

        async def handler(req, read, write):
            async for msg in read:
                await write(msg.payload)

        async def main():
            async with serve(handler, sock="systemd") as server:
                await server.serve_forever(signals=True)

        asyncio.run(main())
        """
    )
    process = await asyncio.create_subprocess_exec(
        "systemd-socket-activate",
        f"--listen=127.0.0.1:{port}",
        f"--setenv=PYTHONPATH={os.pathsep.join(sys.path)}",
        sys.executable,
        "-c",
        program,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(2 * BOUND):
            assert process.stderr is not None
            await process.stderr.readline()  # it listens
            async with websockets.connect(f"ws://127.0.0.1:{port}/") as client:
                await client.send("x")
                assert await client.recv() == "x"
            process.terminate()
            assert await process.wait() == 0
            await process.stderr.read()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


# Notifications


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_systemd_is_told_the_state(kind, tmp_path, monkeypatch):
    name = str(tmp_path / "notify") if kind == "path" else f"\0coro-websocket-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name)
        listening.settimeout(BOUND)
        monkeypatch.setenv("NOTIFY_SOCKET", name.replace("\0", "@"))
        assert systemd_notify("READY=1\nSTATUS=grüßt")
        assert listening.recv(100).decode() == "READY=1\nSTATUS=grüßt"


@pytest.mark.parametrize(
    "path", [None, "", "/nowhere/notify", "relative", "@none", "/" + "x" * 200]
)
def test_where_nobody_listens_nothing_is_told(path, monkeypatch):
    if path is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", path)
    assert not systemd_notify("READY=1")


def test_a_state_that_is_no_text_is_refused():
    with pytest.raises(InvalidOption, match="state must be str"):
        systemd_notify(b"READY=1")  # type: ignore[arg-type]
