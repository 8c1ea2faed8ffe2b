"""Several hosts, several sockets, ports in common, and who may connect to a unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import os
import pwd
import shutil
import socket
import stat
import subprocess

import pytest
import websockets
from tests.helpers.raw_peer import BOUND, echo

from coro_websocket import InvalidOption, InvalidOptionType, ServeError, serve
from coro_websocket._server.unix_owner import check_owner

pytestmark = pytest.mark.usefixtures("no_tasks_left")


async def answers(host, port):
    async with websockets.connect(f"ws://{host}:{port}/") as client:
        await client.send("x")
        return await client.recv() == "x"


# TCP


async def test_several_hosts_are_served_on_one_port():
    async with asyncio.timeout(BOUND), serve(echo, ["127.0.0.1", "127.0.0.2", "::1"]) as server:
        assert len(server.sockets) == 3
        assert server.url == f"ws://127.0.0.1:{server.port}/"
        for host in ("127.0.0.1", "127.0.0.2", "[::1]"):
            assert await answers(host, server.port)


async def test_an_address_that_two_hosts_have_is_listened_on_once():
    hosts = ("127.0.0.1", "localhost", "127.0.0.1")
    async with asyncio.timeout(BOUND), serve(echo, hosts) as server:
        addresses = [sock.getsockname()[0] for sock in server.sockets]
        assert addresses.count("127.0.0.1") == 1


async def test_one_host_that_cannot_be_had_leaves_none_open():
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]
        async with asyncio.timeout(BOUND):
            with pytest.raises(ServeError, match=f"127.0.0.2', port {port}") as caught:
                await serve(echo, ["127.0.0.1", "127.0.0.2"], port)
            assert caught.value.errno == errno.EADDRINUSE
            with pytest.raises(ServeError, match=r"192\.0\.2\.1"):
                await serve(echo, ["127.0.0.1", "192.0.2.1"], port)
        socket.create_server(("127.0.0.1", port)).close()


async def test_a_free_port_is_one_that_every_host_has_free(monkeypatch):
    """The first one that 127.0.0.1 is given is taken on 127.0.0.2."""
    taken: list[socket.socket] = []
    bind = socket.socket.bind

    class Listener(socket.socket):
        def bind(self, address):
            bind(self, address)
            if address == ("127.0.0.1", 0) and not taken:
                taken.append(socket.socket())
                bind(taken[0], ("127.0.0.2", self.getsockname()[1]))
                taken[0].listen()

    monkeypatch.setattr(socket, "socket", Listener)
    async with asyncio.timeout(BOUND), serve(echo, ["127.0.0.1", "127.0.0.2"]) as server:
        assert server.port != taken[0].getsockname()[1]
    taken[0].close()


async def test_processes_may_share_a_port():
    async with asyncio.timeout(BOUND), serve(echo, reuse_port=True) as one:
        async with serve(echo, port=one.port, reuse_port=True) as other:
            assert one.port == other.port
            await one.close()
            assert await answers("127.0.0.1", other.port)
        with pytest.raises(ServeError):
            async with serve(echo, port=0, reuse_port=True) as shared:
                await serve(echo, port=shared.port)


async def test_the_backlog_is_as_long_as_was_asked():
    async with asyncio.timeout(BOUND), serve(echo, backlog=7) as server:
        if shutil.which("ss") is not None:
            command = ["ss", "-Htln", f"sport = :{server.port}"]
            printed = await asyncio.to_thread(subprocess.check_output, command, text=True)
            assert printed.split()[2] == "7"
        assert await answers("127.0.0.1", server.port)


# Sockets


async def test_several_sockets_are_served_and_closed(tmp_path):
    with contextlib.ExitStack() as stack:
        given = [socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)]
        for each in given:
            stack.callback(each.close)
        given[1].bind(str(tmp_path / "s"))
        given[1].listen()
        async with asyncio.timeout(BOUND), serve(echo, sock=given) as server:
            assert server.sockets == tuple(given)
            assert await answers("127.0.0.1", given[0].getsockname()[1])
            async with websockets.unix_connect(str(tmp_path / "s"), "ws://a/") as client:
                await client.send("x")
                assert await client.recv() == "x"
        assert [each.fileno() for each in given] == [-1, -1]


# The file of a unix socket


def permissions(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0])
async def test_the_mode_is_what_was_asked_whatever_the_umask(umask, mode, tmp_path):
    path = tmp_path / "s"
    before = os.umask(umask)
    try:
        async with asyncio.timeout(BOUND), serve(echo, path=path, mode=mode):
            assert permissions(path) == mode
            assert os.umask(umask) == umask  # it is the whole process's, and was not touched
        async with asyncio.timeout(BOUND), serve(echo, path=path):
            assert permissions(path) == 0o777 & ~umask
    finally:
        os.umask(before)


async def test_nobody_can_connect_before_mode_and_owner_are_set(tmp_path, monkeypatch):
    """Between bind() and listen(), whoever connects is refused."""
    path = str(tmp_path / "s")
    refused = []
    chmod, chown = os.chmod, os.chown

    def trying(name, function):
        def call(*arguments, **options):
            with socket.socket(socket.AF_UNIX) as client:
                with pytest.raises(ConnectionRefusedError):
                    client.connect(path)
            refused.append(name)
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(os, "chmod", trying("chmod", chmod))
    monkeypatch.setattr(os, "chown", trying("chown", chown))
    async with asyncio.timeout(BOUND), serve(echo, path=path, mode=0o600, owner=os.getuid()):
        assert refused == ["chown", "chmod"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give a file away")
@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        (1234, (1234, 0)),
        ((1234, 4321), (1234, 4321)),
        ((None, 4321), (0, 4321)),
        ("nobody", (pwd.getpwnam("nobody").pw_uid, 0)),
        ([None, grp.getgrgid(1).gr_name], (0, 1)),
    ],
)
async def test_the_owner_is_who_was_asked(owner, expected, tmp_path):
    path = tmp_path / "s"
    async with asyncio.timeout(BOUND), serve(echo, path=path, owner=owner):
        found = os.stat(path)
        assert (found.st_uid, found.st_gid) == expected


def test_names_are_looked_up():
    me = pwd.getpwuid(os.getuid())
    group = grp.getgrgid(os.getgid()).gr_name
    assert check_owner((me.pw_name, group)) == (me.pw_uid, os.getgid())
    assert check_owner(me.pw_name) == (me.pw_uid, -1)


async def test_what_may_not_be_given_away_leaves_no_file(tmp_path, monkeypatch):
    def chown(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", chown)
    path = tmp_path / "s"
    async with asyncio.timeout(BOUND):
        with pytest.raises(ServeError, match="not permitted"):
            await serve(echo, path=path, owner=1234)
    assert not path.exists()


async def test_a_file_that_somebody_has_put_in_its_place_keeps_its_mode(tmp_path, monkeypatch):
    path, other = tmp_path / "s", tmp_path / "other"
    other.touch(0o600)
    bind = socket.socket.bind

    class Replaced(socket.socket):
        def bind(self, address):
            bind(self, address)
            path.unlink()
            path.symlink_to(other)

    monkeypatch.setattr(socket, "socket", Replaced)
    async with asyncio.timeout(BOUND):
        with pytest.raises(ServeError):
            await serve(echo, path=path, mode=0o666)
    assert permissions(other) == 0o600


# Wrong calls


@pytest.mark.parametrize(
    ("options", "option", "said"),
    [
        ({"host": []}, "host", "empty"),
        ({"host": ["127.0.0.1", 1]}, "host", "a list of str"),
        ({"host": b"127.0.0.1"}, "host", "str"),
        ({"host": ["a", "b\0"]}, "host", "NUL"),
        ({"host": ["user:secret@b"]}, "host", "'@'"),
        ({"host": "a", "path": "s"}, "host", "one of"),
        ({"sock": []}, "sock", "empty"),
        ({"sock": 3}, "sock", "socket"),
        ({"sock": "fd://3"}, "sock", "systemd"),
        ({"backlog": 0}, "backlog", "1 to"),
        ({"backlog": "7"}, "backlog", "int"),
        ({"reuse_port": 1}, "reuse_port", "bool"),
        ({"reuse_port": True, "path": "s"}, "reuse_port", "TCP"),
        ({"mode": 0o660}, "mode", "path"),
        ({"mode": 0o660, "path": "\0s"}, "mode", "abstract"),
        ({"mode": 0o1660, "path": "s"}, "mode", "0o777"),
        ({"mode": "660", "path": "s"}, "mode", "int"),
        ({"owner": "root"}, "owner", "path"),
        ({"owner": "no such user", "path": "s"}, "owner", "no user 'no such user'"),
        ({"owner": (None, "no such group"), "path": "s"}, "owner", "no group"),
        ({"owner": ("root",), "path": "s"}, "owner", "pair"),
        ({"owner": b"root", "path": "s"}, "owner", "pair"),
        ({"owner": 2**32 - 1, "path": "s"}, "owner", "0 to"),
        ({"owner": (1.5, None), "path": "s"}, "owner", "number"),
        ({"owner": "x\0", "path": "s"}, "owner", "no user"),
    ],
)
async def test_what_cannot_be_listened_on_is_refused_at_once(options, option, said):
    with pytest.raises(InvalidOption, match=said) as caught:
        serve(echo, **options)
    assert caught.value.option == option
    assert "secret" not in str(caught.value)


async def test_the_same_socket_twice_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(InvalidOption, match="twice"):
            serve(echo, sock=[listener, listener])
        with pytest.raises(InvalidOptionType, match="socket"):
            serve(echo, sock=[listener, None])
