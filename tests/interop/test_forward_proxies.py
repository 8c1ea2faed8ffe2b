"""Our client through real proxies.

tinyproxy and squid (HTTP CONNECT, squid under TLS too), microsocks (SOCKS5), dante (SOCKS4 and
SOCKS5) and OpenSSH (SOCKS4A).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Certificates

from coro_websocket import ProxyError, Read, Request, Write, connect, serve, worth_retrying

from .conftest import missing

# What the loop changes is shown with our own peers, on every loop.
pytestmark = pytest.mark.deep("transports", "uvloop")

BOUND = 30.0

TINYPROXY = """
Port {port}
Listen 127.0.0.1
Timeout 60
MaxClients 20
Allow 127.0.0.1
{more}
"""


async def echo(req: Request, read: Read, write: Write) -> None:
    async for message in read:
        await write(message.payload)


@contextlib.asynccontextmanager
async def running(
    name: str, arguments: Callable[[int], list[str]], ending: signal.Signals = signal.SIGTERM
) -> AsyncIterator[int]:
    """A proxy on some port; on another one if that is not free.

    ending: what ends it, and whatever children it has.
    """
    program = program_of(name)
    for _ in range(5):
        # Below the ports that the system gives to those who ask for any.
        port = random.randrange(10_000, 32_000)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments(port),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            if await listens(process, port):
                yield port
                return
        finally:
            if process.returncode is None:
                process.send_signal(ending)
            async with asyncio.timeout(BOUND):
                await process.wait()
    raise AssertionError(f"{name} does not start")


def program_of(name: str) -> str:
    """Its path; Debian's packages are in .ci/run."""
    program = shutil.which(name, path="/usr/bin:/usr/sbin:/usr/local/bin")
    if program is None:
        missing(f"{name} is not installed")
    return program


async def listens(process: asyncio.subprocess.Process, port: int) -> bool:
    async with asyncio.timeout(BOUND):
        while process.returncode is None:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                return True
            await asyncio.sleep(0.02)
    return False


def tinyproxy(folder: Path, more: str = "") -> contextlib.AbstractAsyncContextManager[int]:
    config = folder / "tinyproxy.conf"

    def arguments(port: int) -> list[str]:
        config.write_text(TINYPROXY.format(port=port, more=more))
        return ["-d", "-c", str(config)]

    return running("tinyproxy", arguments)


def microsocks(*more: str) -> contextlib.AbstractAsyncContextManager[int]:
    return running("microsocks", lambda port: ["-i", "127.0.0.1", "-p", str(port), *more])


# Of "ses:ame"; as an option it keeps the ':' that ends a user name.
SQUID_USER = "user:$1$coro$hx6cRTX/EbE9YSdciVs/b/\n"

SQUID = """
{kind}_port 127.0.0.1:{port} {tls}
acl forbidden dstdomain forbidden.test
http_access deny forbidden
{access}
cache_effective_user proxy
cache_log {folder}/cache.log
access_log none
pid_filename {folder}/pid
coredump_dir {folder}
cache deny all
cache_mem 1 MB
memory_cache_shared off
netdb_filename none
pinger_enable off
shutdown_lifetime 0 seconds
visible_hostname proxy.test
"""

SQUID_AUTH = """
auth_param basic program /usr/lib/squid/basic_ncsa_auth {folder}/users
auth_param basic realm proxies
auth_param basic children 1
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that a proxy can use as another user."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


@contextlib.asynccontextmanager
async def squid(
    folder: Path, certificates: Certificates | None = None, auth: bool = False
) -> AsyncIterator[int]:
    if certificates is not None:
        version = await asyncio.create_subprocess_exec(
            program_of("squid"), "-v", stdout=asyncio.subprocess.PIPE
        )
        if b"--with-openssl" not in (await version.communicate())[0]:
            missing("squid is built without OpenSSL, as Debian's squid-openssl is not")
        (folder / "cert.pem").write_text(certificates.cert)
        (folder / "key.pem").write_text(certificates.key)
    (folder / "users").write_text(SQUID_USER)

    def arguments(port: int) -> list[str]:
        (folder / "squid.conf").write_text(
            SQUID.format(
                kind="http" if certificates is None else "https",
                port=port,
                tls=""
                if certificates is None
                else f"tls-cert={folder}/cert.pem tls-key={folder}/key.pem",
                access=SQUID_AUTH.format(folder=folder) if auth else "http_access allow all",
                folder=folder,
            )
        )
        return ["-N", "-n", f"coro{port}", "-f", str(folder / "squid.conf")]

    # Else it takes its time; its children end by themselves.
    async with running("squid", arguments, signal.SIGKILL) as port:
        try:
            yield port
        finally:
            remove_shared_memory(port)


def remove_shared_memory(port: int) -> None:
    for left in Path("/dev/shm").glob(f"coro{port}-*"):
        left.unlink()


DANTE = """
logoutput: {folder}/log
internal: 127.0.0.1 port = {port}
external: lo
socksmethod: {method}
clientmethod: none
{users}
client pass {{
    from: 0.0.0.0/0 to: 0.0.0.0/0
}}
socks block {{
    from: 0.0.0.0/0 to: 127.0.0.3/32
}}
socks pass {{
    from: 0.0.0.0/0 to: 0.0.0.0/0
    protocol: tcp
    proxyprotocol: {protocols}
}}
"""


def dante(
    folder: Path, method: str = "none", protocols: str = "socks_v4 socks_v5"
) -> contextlib.AbstractAsyncContextManager[int]:
    root = "user.privileged: root\nuser.unprivileged: root" if os.geteuid() == 0 else ""

    def arguments(port: int) -> list[str]:
        config = DANTE.format(
            folder=folder, port=port, method=method, users=root, protocols=protocols
        )
        (folder / "dante.conf").write_text(config)
        return ["-f", str(folder / "dante.conf"), "-p", str(folder / "pid")]

    return running("danted", arguments)


@contextlib.asynccontextmanager
async def openssh(folder: Path) -> AsyncIterator[int]:
    """`ssh -D`: a proxy that speaks SOCKS4, 4A and 5, and leads through an sshd of our own."""
    key = folder / "key"
    made = ["-q", "-t", "ed25519", "-N", "", "-f", str(key)]
    keygen = await asyncio.create_subprocess_exec(program_of("ssh-keygen"), *made)
    assert await keygen.wait() == 0
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)  # which sshd wants to be there

    def serving(port: int) -> list[str]:
        return [
            *("-D", "-f", "/dev/null", "-o", "ListenAddress=127.0.0.1", "-o", f"Port={port}"),
            *("-o", f"HostKey={key}", "-o", f"AuthorizedKeysFile={key}.pub"),
            *("-o", "StrictModes=no", "-o", "UsePAM=no", "-o", "PidFile=none"),
        ]

    async with running("sshd", serving) as sshd:

        def forwarding(port: int) -> list[str]:
            return [
                *("-N", "-n", "-F", "none", "-i", str(key), "-p", str(sshd)),
                *("-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no"),
                *("-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"),
                *("-o", "ExitOnForwardFailure=yes", "-D", f"127.0.0.1:{port}", "127.0.0.1"),
            ]

        async with running("ssh", forwarding) as port:
            yield port


async def exchange(url: str, **options: Any) -> None:
    async with connect(url, timeout=BOUND, **options) as (_, read, write):
        for message in ("through a proxy", b"\x00" * 200_000):
            await write(message)
            assert (await read()).payload == message


@pytest.mark.parametrize("tls", [False, True])
async def test_http_connect(tmp_path: Path, certificates: Certificates, tls: bool) -> None:
    secure: dict[str, Any] = {"tls": certificates.server} if tls else {}
    async with tinyproxy(tmp_path) as port, serve(echo, **secure) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        options = {"tls": certificates.client} if tls else {}
        await exchange(url, proxy=f"http://127.0.0.1:{port}", **options)


async def test_http_connect_with_a_password(tmp_path: Path) -> None:
    async with tinyproxy(tmp_path, "BasicAuth user sesame") as port, serve(echo) as server:
        await exchange(server.url, proxy=f"http://user:sesame@127.0.0.1:{port}")
        with pytest.raises(ProxyError, match=r"407|401") as caught:
            await connect(server.url, proxy=f"http://user:wrong@127.0.0.1:{port}")
        assert caught.value.status in (401, 407)
        assert "wrong" not in str(caught.value)


async def test_http_connect_to_a_server_that_is_not_there(tmp_path: Path) -> None:
    async with tinyproxy(tmp_path) as port:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            url = f"ws://127.0.0.1:{bound.getsockname()[1]}/"
            with pytest.raises(ProxyError, match="refused the tunnel: 5"):
                await connect(url, proxy=f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@pytest.mark.parametrize("tls", [False, True])
async def test_socks5(certificates: Certificates, scheme: str, tls: bool) -> None:
    secure: dict[str, Any] = {"tls": certificates.server} if tls else {}
    async with microsocks() as port, serve(echo, **secure) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        options = {"tls": certificates.client} if tls else {}
        await exchange(url, proxy=f"{scheme}://127.0.0.1:{port}", **options)


async def test_socks5_with_a_password() -> None:
    async with microsocks("-u", "user", "-P", "sesame") as port, serve(echo) as server:
        await exchange(server.url, proxy=f"socks5://user:sesame@127.0.0.1:{port}")
        with pytest.raises(ProxyError) as caught:
            await connect(server.url, proxy=f"socks5://user:wrong@127.0.0.1:{port}")
        assert "wrong" not in str(caught.value)
        assert caught.value.phase == "proxy"
        assert not worth_retrying(caught.value)
        with pytest.raises(ProxyError, match="asks for a user name") as caught:
            await connect(server.url, proxy=f"socks5h://127.0.0.1:{port}")
        assert not worth_retrying(caught.value)


async def test_socks5_with_a_password_of_any_letters() -> None:
    async with microsocks("-u", "jürgen", "-P", "sesäme") as port, serve(echo) as server:
        await exchange(server.url, proxy=f"socks5h://j%C3%BCrgen:ses%C3%A4me@127.0.0.1:{port}")


@pytest.mark.parametrize("under_tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("auth", [False, True], ids=["open", "auth"])
async def test_squid(folder: Path, certificates: Certificates, under_tls: bool, auth: bool) -> None:
    async with (
        squid(folder, certificates if under_tls else None, auth) as port,
        serve(echo) as plain,
        serve(echo, tls=certificates.server) as secure,
    ):
        scheme = "https" if under_tls else "http"
        where = f"localhost:{port}"
        userinfo = "user:ses%3Aame@" if auth else ""
        options: dict[str, Any] = {"proxy": f"{scheme}://{userinfo}{where}"}
        if under_tls:
            options["proxy_tls"] = certificates.client
        await exchange(plain.url, **options)
        await exchange(secure.url, tls=certificates.client, **options)
        with pytest.raises(ProxyError, match="403") as caught:
            await connect("wss://forbidden.test/", **options)
        assert not worth_retrying(caught.value)
        assert caught.value.response is not None
        assert caught.value.response["Server"].startswith("squid")
        if auth:
            for userinfo, said in (("", "asks for"), ("user:wrong@", "rejects")):
                options["proxy"] = f"{scheme}://{userinfo}{where}"
                with pytest.raises(ProxyError, match=f"407 .*{said}") as caught:
                    await connect(plain.url, **options)
                assert not worth_retrying(caught.value)
                assert "wrong" not in str(caught.value)
        if under_tls:
            del options["proxy_tls"]
            with pytest.raises(ProxyError, match="the proxy's certificate is not acc") as caught:
                await connect(plain.url, **options)
            assert not worth_retrying(caught.value)
            options["proxy"] = f"http://{where}"  # TLS is missing
            with pytest.raises(ProxyError):
                await connect(plain.url, **options)


@pytest.mark.parametrize("scheme", ["socks4", "socks5", "socks5h"])
async def test_dante(folder: Path, certificates: Certificates, scheme: str) -> None:
    async with dante(folder) as port, serve(echo, tls=certificates.server) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        userinfo = "me@" if scheme == "socks4" else ""
        options = {"proxy": f"{scheme}://{userinfo}127.0.0.1:{port}", "tls": certificates.client}
        await exchange(url, **options)
        with pytest.raises(ProxyError, match=r"rules do not allow|rejected"):
            await connect("ws://127.0.0.3/", proxy=options["proxy"])  # type: ignore[arg-type]
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            url = f"ws://127.0.0.1:{bound.getsockname()[1]}/"
            with pytest.raises(ProxyError, match=r"connection refused|rejected") as caught:
                await connect(url, proxy=options["proxy"])  # type: ignore[arg-type]
            assert worth_retrying(caught.value)


async def test_dante_with_a_password(folder: Path) -> None:
    async with dante(folder, "username", "socks_v5") as port:
        for userinfo, said in (("", "asks for a user name"), ("nobody:wrong@", "rejects")):
            with pytest.raises(ProxyError, match=said) as caught:
                await connect("ws://127.0.0.1:9/", proxy=f"socks5://{userinfo}127.0.0.1:{port}")
            assert not worth_retrying(caught.value)
            assert "wrong" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["socks4", "socks4a", "socks5", "socks5h"])
async def test_openssh(folder: Path, certificates: Certificates, scheme: str) -> None:
    async with openssh(folder) as port, serve(echo, tls=certificates.server) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        await exchange(url, tls=certificates.client, proxy=f"{scheme}://127.0.0.1:{port}")
