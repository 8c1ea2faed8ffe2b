"""Where a server listens: the addresses of a name, and unix sockets and their files."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import socket
import sys

import pytest
from tests.helpers.raw_peer import BOUND, echo, turns_of_the_loop

from coro_websocket import ServeError, connect, serve

pytestmark = pytest.mark.usefixtures("no_tasks_left")


def named(name):
    async def handler(req, read, write):
        await write(name)

    return handler


async def who(path):
    """Which server can be reached there."""
    async with connect(path=str(path)) as (_, read, _):
        return (await read()).payload


# Unix sockets


async def test_the_socket_of_a_server_that_is_alive_is_not_replaced(tmp_path):
    path = tmp_path / "socket"
    async with serve(named("A"), path=path):
        with pytest.raises(ServeError, match="another server listens") as caught:
            await serve(named("B"), path=path)
        assert await who(path) == "A"
    assert str(path) in str(caught.value)
    assert caught.value.errno == errno.EADDRINUSE
    assert not path.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere connect() is refused then")
async def test_a_server_that_is_too_busy_to_accept_is_alive(tmp_path):
    path = tmp_path / "socket"
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(socket.socket(socket.AF_UNIX))
        busy.bind(str(path))
        busy.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(str(path))
        with pytest.raises(ServeError, match="another server listens"):
            await serve(echo, path=path)
        assert path.exists()


async def test_a_server_that_is_about_to_listen_is_alive(tmp_path):
    """It has bound its socket; until it listens, that looks like one left behind."""
    path = tmp_path / "socket"
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            starting = asyncio.ensure_future(serve(echo, path=path))
            await turns_of_the_loop(5)
            other.listen()
            fcntl.flock(folder, fcntl.LOCK_UN)
            async with asyncio.timeout(BOUND):
                with pytest.raises(ServeError, match="another server listens"):
                    await starting
            assert path.exists()
    finally:
        os.close(folder)


async def test_a_lock_that_somebody_else_keeps_holds_nobody_up_for_ever(tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        async with asyncio.timeout(BOUND), serve(named("A"), path=tmp_path / "socket"):
            assert await who(tmp_path / "socket") == "A"
    finally:
        os.close(folder)


async def test_closing_deletes_no_socket_of_another_server(tmp_path):
    path = tmp_path / "socket"
    first = await serve(named("A"), path=path)
    path.unlink()
    async with serve(named("B"), path=path):
        await first.close()
        assert await who(path) == "B"


async def test_closing_deletes_no_file_that_has_come_in_its_place(tmp_path):
    path = tmp_path / "socket"
    async with serve(echo, path=path):
        path.unlink()
        path.write_text("kept")
    assert path.read_text() == "kept"


async def test_a_server_closed_twice_deletes_only_once(tmp_path):
    path = tmp_path / "socket"
    first = await serve(named("A"), path=path)
    await first.close()
    async with serve(named("B"), path=path):
        await first.close()
        assert await who(path) == "B"


async def test_a_relative_path_is_that_of_the_folder_where_the_server_was_started(
    tmp_path, monkeypatch
):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(there)
    async with serve(named("B"), path="socket"):
        monkeypatch.chdir(here)
        first = await serve(named("A"), path="socket")
        monkeypatch.chdir(there)
        await first.close()
        assert not (here / "socket").exists()
        assert await who("socket") == "B"


async def test_a_link_to_a_socket_is_not_replaced(tmp_path):
    path, link = tmp_path / "socket", tmp_path / "link"
    link.symlink_to(path)
    async with serve(named("A"), path=path):
        with pytest.raises(ServeError, match="link"):
            await serve(named("B"), path=link)
        assert await who(link) == "A"


async def test_the_file_of_a_socket_that_was_given_stays(tmp_path):
    path = tmp_path / "socket"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    async with serve(named("A"), sock=listener):
        assert await who(path) == "A"
    assert path.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
async def test_an_abstract_name_in_use_is_named():
    name = f"\0coro-websocket-test-{id(object())}"
    async with serve(named("A"), path=name):
        with pytest.raises(ServeError, match="coro-websocket-test") as caught:
            await serve(named("B"), path=name)
        assert await who(name) == "A"
    assert caught.value.errno == errno.EADDRINUSE


# The addresses of a name

NOT_OURS = ("203.0.113.1", "203.0.113.2")  # RFC 5737: no machine has them


@contextlib.contextmanager
def addresses(*hosts, broken=None, error=0):
    """A name, and "", has these addresses; sockets of the family `broken` fail like this."""

    def getaddrinfo(host, port, *_, **__):
        found = []
        for each in hosts:
            six = ":" in each
            family = socket.AF_INET6 if six else socket.AF_INET
            address = (each, port, 0, 0) if six else (each, port)
            found.append((family, socket.SOCK_STREAM, 0, "", address))
        return found

    class Socket(socket.socket):
        def __init__(self, family=-1, *rest, **more):
            if family == broken:
                raise OSError(error, os.strerror(error))
            super().__init__(family, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        patch.setattr(socket, "socket", Socket)
        yield


@pytest.mark.parametrize("error", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPERM])
@pytest.mark.parametrize("host", ["", "name.test"])
async def test_where_there_is_no_ipv6_the_other_addresses_are_served(host, error, caplog):
    with addresses("::1", "127.0.0.1", broken=socket.AF_INET6, error=error):
        server = await serve(echo, host)
    async with asyncio.timeout(BOUND):
        assert [listener.getsockname()[0] for listener in server.sockets] == ["127.0.0.1"]
        await (await connect(server.url))[2].close()
        await server.close()
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert f"but not on ::1: {os.strerror(error)}" in line


@pytest.mark.parametrize("hosts", [("127.0.0.1", NOT_OURS[0]), (NOT_OURS[0], "127.0.0.1")])
async def test_an_address_of_a_name_that_is_not_of_this_machine_is_left_out(hosts, caplog):
    with addresses(*hosts):
        server = await serve(echo, "name.test")
    assert [listener.getsockname()[0] for listener in server.sockets] == ["127.0.0.1"]
    await server.close()
    assert f"'name.test', but not on {NOT_OURS[0]}: " in caplog.text


async def test_where_no_address_can_be_had_each_is_named():
    with addresses("::1", *NOT_OURS, broken=socket.AF_INET6, error=errno.EAFNOSUPPORT):
        with pytest.raises(ServeError, match=r"'name\.test', port 8000: ") as caught:
            await serve(echo, "name.test", 8000)
    for each in ("::1", *NOT_OURS):
        assert f"{each}: " in str(caught.value)
    assert caught.value.errno == errno.EADDRNOTAVAIL
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("hosts", [("127.0.0.1", "127.0.0.2"), (NOT_OURS[0], "127.0.0.2")])
async def test_a_port_that_is_in_use_on_one_address_is_served_on_none(hosts, caplog):
    with socket.create_server(("127.0.0.2", 0)) as taken:
        with addresses(*hosts), pytest.raises(ServeError) as caught:
            await serve(echo, "name.test", taken.getsockname()[1])
    assert caught.value.errno == errno.EADDRINUSE
    assert not caplog.records


async def test_where_no_descriptor_is_left_a_name_is_not_half_served():
    with addresses("127.0.0.1", "::1", broken=socket.AF_INET6, error=errno.EMFILE):
        with pytest.raises(ServeError) as caught:
            await serve(echo, "name.test")
    assert caught.value.errno == errno.EMFILE
