"""coro-websocket serve: applications, worker processes, signals, certificates; real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import trustme
import websockets
from websockets import Subprotocol
from websockets.sync.client import connect as sync_connect
from websockets.sync.client import unix_connect

from coro_websocket import InvalidOption
from coro_websocket._cli import main
from coro_websocket._cli.application import load
from coro_websocket._cli.watching import Watch

BOUND = 30
COMMAND = [sys.executable, "-m", "coro_websocket", "serve"]

APP = textwrap.dedent(
    """
    import asyncio, os

    async def handler(req, read, write):
        await write(f"{os.getpid()} {req.subprotocol}")
        async for msg in read:
            if msg.payload == "die":
                os._exit(9)
            if msg.payload == "drain":
                await req.server.draining
            await write(msg.payload)

    class Inner:
        handler = staticmethod(handler)

    def factory():
        return {"handler": handler, "subprotocols": ["chat"]}

    async def slow_factory():
        await asyncio.sleep(0)
        return handler

    def none():
        return {}

    mapping = {"handler": handler}

    def with_port():
        return {"handler": handler, "port": 8000}

    async def stubborn(req, read, write):
        await write("ready")
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass

    def secure():
        return {"handler": handler, "tls": {"cert": "cert.pem"}}

    number = 7
    """
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "chat.py").write_text(APP)
    (tmp_path / "broken.py").write_text("import no_such_module_at_all\n")
    (tmp_path / "failing.py").write_text("raise RuntimeError('of the application')\n")
    return tmp_path


@contextlib.contextmanager
def serving(folder, *arguments, **more):
    """A server as a process, and its URL."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        **more,
    )
    try:
        yield process, process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        try:
            process.communicate(timeout=BOUND)
        finally:
            process.kill()


def ended(process):
    """The exit status, and what it has said."""
    _, stderr = process.communicate(timeout=BOUND)
    return process.returncode, stderr


def first_word(url, **options):
    """Of what the handler says: the process that serves."""
    with sync_connect(url, **options) as client:
        return int(client.recv().split()[0])


def until(condition):
    deadline = time.monotonic() + BOUND
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def both(url):
    """The processes of both workers."""
    seen: set[int] = set()
    while len(seen) < 2:
        seen.add(first_word(url))
    return seen


def refuses(url):
    """Whether nobody listens there any more."""
    try:
        with sync_connect(url):
            return False
    except websockets.InvalidStatus as error:  # it waited to be accepted
        assert error.response.status_code == 503
        return False
    except OSError:
        return True


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# Applications


def test_an_application_is_served(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with serving(elsewhere, "chat:factory", "--factory", "--app-dir", folder) as (process, url):
        with sync_connect(url, subprotocols=[Subprotocol("chat")]) as client:
            assert client.recv() == f"{process.pid} chat"
        process.terminate()
        assert ended(process) == (0, "")


@pytest.fixture
def importing(folder, monkeypatch):
    """Modules of the folder are imported anew, and forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("app", "factory", "names"),
    [
        ("chat:handler", False, {"handler"}),
        ("chat:Inner.handler", False, {"handler"}),
        ("chat:factory", True, {"handler", "subprotocols"}),
        ("chat:slow_factory", True, {"handler"}),
    ],
)
@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_applications_are_found(app, factory, names, folder, importing):
    arguments = await load(app, factory=factory, folder=str(folder))
    assert arguments.keys() == names
    assert arguments["handler"] is sys.modules["chat"].handler


@pytest.mark.parametrize(
    ("app", "factory", "error", "said"),
    [
        ("chat", False, InvalidOption, "module:name"),
        ("chat:", False, InvalidOption, "module:name"),
        (":handler", False, InvalidOption, "module:name"),
        ("chat:a b", False, InvalidOption, "module:name"),
        ("no.such:handler", False, InvalidOption, "no module 'no.such'"),
        ("chat:nobody", False, InvalidOption, "no 'nobody' in the module 'chat'"),
        ("chat:number", True, InvalidOption, "not a function"),
        ("chat:none", True, InvalidOption, "no 'handler'"),
        ("chat:with_port", True, InvalidOption, "'port', which the command says"),
        ("chat:mapping", False, InvalidOption, "--factory"),
        ("chat:factory", False, InvalidOption, "if it returns one, say --factory"),
        ("chat.py:handler", False, InvalidOption, "did you mean 'chat:handler'"),
        ("broken:handler", False, ModuleNotFoundError, "no_such_module_at_all"),
        ("failing:handler", False, RuntimeError, "of the application"),
    ],
)
@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_what_is_wrong_with_an_application_is_said(
    app, factory, error, said, folder, importing
):
    with pytest.raises(error, match=said):
        await load(app, factory=factory, folder=str(folder))


@pytest.mark.deep("chat:number")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("app", "status", "said"),
    [
        ("failing:handler", 1, "RuntimeError: of the application"),
        ("chat:number", 2, "handler must be a coroutine function"),
    ],
)
def test_an_application_that_cannot_be_served_ends_the_command(app, status, said, workers, folder):
    done = subprocess.run(
        [*COMMAND, app, "--workers", str(workers)],
        capture_output=True,
        text=True,
        timeout=BOUND,
        cwd=folder,
    )
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "APP"),
        (["chat:handler", "--echo"], "APP"),
        (["--echo", "--workers", "0"], "1 to 1024"),
        (["--echo", "--workers", "many"], "1 to 1024"),
        (["--echo", "--drain-timeout", "-1"], "0 or more"),
        (["--echo", "--drain-timeout", "soon"], "a number of seconds"),
        (["--echo", "--path", "s", "--mode", "rw"], "octal"),
        (["--echo", "--mode", "660"], "path"),
        (["--echo", "--path", "s", "--owner", "no-such-user"], "no-such-user"),
        (["--echo", "--systemd"], "systemd"),
        (["--echo", "--workers", "2", "--cert", "/no/file"], "cert"),
        (["--echo", "--workers", "2", "--host", "a", "--path", "b"], "one of"),
    ],
)
def test_a_wrong_call_is_said_in_a_line(arguments, said, capsys):
    try:
        status = main(["serve", *arguments])
    except SystemExit as error:  # argparse's
        status = error.code  # type: ignore[assignment]
    assert status == 2
    assert said in capsys.readouterr().err


def test_what_cannot_be_listened_on_is_said_once_for_all_workers(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*COMMAND, "--echo", "--workers", "2", "--port", str(port)],
            capture_output=True,
            text=True,
            timeout=BOUND,
        )
    assert done.returncode == 1
    assert done.stderr.count("cannot listen") == 1


# Where to listen


@pytest.mark.deep("1")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_unix_socket_has_the_mode_that_was_asked_and_goes_with_the_server(workers, folder):
    path = folder / "s"
    arguments = ["chat:handler", "--path", path, "--mode", "600", "--owner", f"{os.getuid()}:"]
    with serving(folder, *arguments, "--workers", workers) as (process, url):
        assert url.startswith("ws+unix://")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with unix_connect(str(path), "ws://a/") as client:
            assert client.recv()
        process.terminate()
        assert ended(process)[0] == 0
    assert not path.exists()


def test_several_hosts(folder):
    with serving(folder, "chat:handler", "--host", "127.0.0.1", "--host", "127.0.0.2") as (_, url):
        assert first_word(url) == first_word(url.replace("127.0.0.1", "127.0.0.2"))


@pytest.mark.deep("1")
@pytest.mark.parametrize("workers", [1, 2])
def test_sockets_of_systemd(workers, folder):
    """Descriptor 3, as systemd passes it, for the process that it starts."""
    launch = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); "
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); "
        "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        number = str(listener.fileno())
        arguments = ["chat:handler", "--systemd", "--workers", str(workers)]
        process = subprocess.Popen(
            [sys.executable, "-c", launch, number, *COMMAND[1:], *arguments],
            pass_fds=[listener.fileno()],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        assert process.stdout.readline() == f"serving on ws://127.0.0.1:{port}/\n"
        assert first_word(f"ws://127.0.0.1:{port}/")
        process.terminate()
        assert ended(process) == (0, "")
    finally:
        process.kill()


# Workers


@pytest.mark.deep("reuse_port1")
@pytest.mark.parametrize("reuse_port", [[], ["--reuse-port"]])
def test_workers_share_a_port_and_one_that_dies_is_replaced(reuse_port, folder):
    with serving(folder, "chat:handler", "--workers", 2, *reuse_port) as (process, url):
        seen = both(url)
        assert process.pid not in seen
        with sync_connect(url) as client:
            dying = int(client.recv().split()[0])
            client.send("die")
            with pytest.raises(websockets.ConnectionClosed):
                client.recv()
        # Whoever connects meanwhile is served, now or by the next one.
        found = {first_word(url) for _ in range(8)}
        while not found - seen:
            found.add(first_word(url))
        assert dying not in found
        process.terminate()
        status, stderr = ended(process)
        assert status == 0
        assert f"(process {dying}) ended with 9: another one starts in 1 s" in stderr
        assert not any(map(is_alive, seen | found))


@pytest.mark.deep("2")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_every_worker(number, folder):
    with serving(folder, "chat:handler", "--workers", 2, "--drain-timeout", "none") as (
        process,
        url,
    ):
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(sync_connect(url)) for _ in range(4)]
            for client in clients:
                client.recv()
                client.send("drain")
            process.send_signal(number)
            for client in clients:
                assert client.recv() == "drain"
            until(lambda: refuses(url))
        assert ended(process) == (0, "")


@pytest.mark.deep("2")
@pytest.mark.parametrize("workers", [1, 2])
def test_connections_that_are_open_at_the_end_of_drain_timeout_are_told_1012(workers, folder):
    arguments = ["chat:handler", "--workers", workers, "--drain-timeout", "0.05"]
    with serving(folder, *arguments) as (process, url), sync_connect(url) as client:
        client.recv()
        process.terminate()
        with pytest.raises(websockets.ConnectionClosedError) as caught:
            client.recv()
        assert caught.value.rcvd.code == 1012
        assert ended(process) == (0, "")


@pytest.mark.deep("1")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_signal_closes_at_once(workers, folder):
    arguments = ["chat:handler", "--workers", workers, "--drain-timeout", "none"]
    with serving(folder, *arguments) as (process, url), sync_connect(url) as client:
        client.recv()
        process.send_signal(signal.SIGINT)
        until(lambda: refuses(url))
        client.send("still here")
        assert client.recv() == "still here"
        process.send_signal(signal.SIGINT)
        with pytest.raises(websockets.ConnectionClosed):
            client.recv()
        assert ended(process) == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="its children are looked up in /proc")
def test_a_signal_before_the_workers_serve_ends_them_too(folder):
    (folder / "slow.py").write_text("import time\ntime.sleep(0.5)\nfrom chat import handler\n")
    process = subprocess.Popen(
        [*COMMAND, "slow:handler", "--workers", "2"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    children = f"/proc/{process.pid}/task/{process.pid}/children"
    until(lambda: len(Path(children).read_text().split()) == 2)
    process.terminate()
    assert process.communicate(timeout=BOUND) == ("", "")
    assert process.returncode == 0


@pytest.mark.deep
def test_a_worker_that_does_not_end_is_killed_by_the_third_signal(folder):
    arguments = ["chat:stubborn", "--workers", 2]
    with serving(folder, *arguments) as (process, url), sync_connect(url) as client:
        client.recv()
        for _ in range(2):
            process.terminate()
            time.sleep(0.1)
        process.terminate()
        status, stderr = ended(process)
        assert status == 1
        assert "is killed" in stderr


@pytest.mark.deep
def test_workers_end_where_the_command_is_killed(folder):
    with serving(folder, "chat:handler", "--workers", 2, "--drain-timeout", "0") as (process, url):
        seen = both(url)
        process.kill()
        until(lambda: not any(map(is_alive, seen)))


def test_a_worker_that_is_told_to_end_is_replaced_and_loses_nobody(folder):
    with serving(folder, "chat:handler", "--workers", 1 + 1) as (process, url):
        with sync_connect(url) as client:
            pid = int(client.recv().split()[0])
            os.kill(pid, signal.SIGTERM)
            client.send("still here")
            assert client.recv() == "still here"
        until(lambda: not is_alive(pid))
        assert all(first_word(url) != pid for _ in range(4))
        process.terminate()
        assert ended(process)[0] == 0


# Development


def test_a_change_of_the_source_starts_the_server_anew(folder):
    source = folder / "app.py"
    text = "async def handler(req, read, write):\n    await write('one')\n    await read()\n"
    source.write_text(text)
    with serving(folder, "app:handler", "--reload") as (process, url):
        with sync_connect(url) as client:
            assert client.recv() == "one"
            source.write_text("broken = (\n")
            with pytest.raises(websockets.ConnectionClosedError) as caught:
                client.recv()
            assert caught.value.rcvd.code == 1012
        said = ""
        while "waiting for a change" not in said:
            said += process.stderr.readline()
        assert "app.py has changed: starting anew" in said
        assert "SyntaxError" in said
        source.write_text(text.replace("one", "another"))
        with sync_connect(url) as client:  # it waits in the backlog
            assert client.recv() == "another"
        process.terminate()
        assert ended(process)[0] == 0


def test_what_is_not_the_applications_is_not_watched(tmp_path):
    for name in (".git", "__pycache__", "node_modules", "venv"):
        (tmp_path / name).mkdir()
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    watch = Watch(str(tmp_path))
    for name in (".git/a.py", "__pycache__/a.py", "node_modules/a.py", "venv/a.py", "data.txt"):
        (tmp_path / name).write_text("x")
    assert watch.changed() is None
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "a.py").touch()
    assert watch.changed() == os.path.join("package", "a.py")
    assert watch.changed() is None
    (tmp_path / "package" / "a.py").unlink()
    assert watch.changed() == os.path.join("package", "a.py")


# systemd and certificates


@pytest.mark.deep("1")
@pytest.mark.parametrize("workers", [1, 2])
def test_systemd_is_told_once(workers, folder):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(folder / "notify"))
        systemd.settimeout(BOUND)
        environment = {**os.environ, "NOTIFY_SOCKET": str(folder / "notify")}
        arguments = ["chat:handler", "--workers", workers]
        with serving(folder, *arguments, env=environment) as (process, _):
            assert systemd.recv(100) == b"READY=1"
            process.terminate()
            assert systemd.recv(100) == b"STOPPING=1"
            assert ended(process) == (0, "")
        systemd.setblocking(False)
        with pytest.raises(BlockingIOError):
            systemd.recv(100)


@pytest.mark.deep("1")
@pytest.mark.parametrize("workers", [1, 2])
def test_sighup_reads_the_certificates_again(workers, folder):
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    def renew():
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(folder / "new.pem")
        (folder / "new.pem").rename(folder / "cert.pem")
        return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())

    def shown(url):
        with sync_connect(url, ssl=trusting) as client:
            client.recv()
            return client.socket.getpeercert(True)  # type: ignore[attr-defined]

    first = renew()
    arguments = ["chat:handler", "--workers", workers, "--cert", "cert.pem"]
    with serving(folder, *arguments) as (process, url):
        assert shown(url) == first
        with sync_connect(url, ssl=trusting) as client:
            client.recv()
            second = renew()
            process.send_signal(signal.SIGHUP)
            until(lambda: {shown(url) for _ in range(4)} == {second})
            (folder / "cert.pem").write_text("nothing")
            process.send_signal(signal.SIGHUP)
            line = process.stderr.readline()
            assert "the certificates stay as they are: tls.cert holds no certificate" in line
            assert shown(url) == second
            client.send("still here")
            assert client.recv() == "still here"
        process.terminate()
        assert ended(process)[0] == 0


def test_an_application_may_bring_its_own_certificates(folder):
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "cert.pem")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with serving(folder, "chat:secure", "--factory", "--workers", 2) as (_, url):
        assert url.startswith("wss://")
        assert first_word(url, ssl=trusting)


def test_a_terminal_that_is_closed_ends_a_server_without_certificates(folder):
    with serving(folder, "chat:handler") as (process, _):
        process.send_signal(signal.SIGHUP)
        assert ended(process) == (0, "")
