"""Certificates that are read again: new connections have them, open ones go on."""

from __future__ import annotations

import asyncio
import ssl

import pytest
import trustme
import websockets
from tests.helpers.raw_peer import BOUND, echo

from coro_websocket import InvalidOption, connect, serve

pytestmark = pytest.mark.usefixtures("no_tasks_left")


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def files(tmp_path, authority):
    """The paths of a certificate and its key, and a function that puts new ones there."""

    class Files:
        cert = tmp_path / "cert.pem"
        key = tmp_path / "key.pem"

        def renew(self):
            issued = authority.issue_cert("localhost", "127.0.0.1")
            issued.private_key_pem.write_to_path(self.key)
            self.cert.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
            return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())

        @property
        def tls(self):
            return {"cert": str(self.cert), "key": str(self.key)}

    return Files()


@pytest.fixture
def trusting(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def shown(server, trusting):
    """The certificate that a client of `websockets` is shown."""
    async with websockets.connect(server.url, ssl=trusting) as client:
        await client.send("x")
        assert await client.recv() == "x"
        return client.transport.get_extra_info("ssl_object").getpeercert(True)


async def test_new_connections_have_the_new_certificate_and_open_ones_go_on(files, trusting):
    first = files.renew()
    async with asyncio.timeout(BOUND), serve(echo, tls=files.tls) as server:
        async with connect(server.url, tls=trusting) as (res, read, write):
            assert res.tls.peer_certificate_der == first
            second = files.renew()
            assert await shown(server, trusting) == first
            server.reload_tls()
            assert await shown(server, trusting) == second
            await write("still here")
            assert (await read()).payload == "still here"


@pytest.mark.parametrize("broken", ["cert", "key", "gone", "other key"])
async def test_files_that_cannot_be_used_leave_the_old_certificate(
    broken, files, trusting, authority
):
    first = files.renew()
    async with asyncio.timeout(BOUND), serve(echo, tls=files.tls) as server:
        files.renew()
        if broken == "gone":
            files.cert.unlink()
        elif broken == "other key":
            authority.issue_cert("other").private_key_pem.write_to_path(files.key)
        else:
            getattr(files, broken).write_text("-----BEGIN nothing")
        with pytest.raises(InvalidOption) as caught:
            server.reload_tls()
        assert caught.value.option in ("tls.cert", "tls.key")
        assert await shown(server, trusting) == first
        second = files.renew()
        server.reload_tls()
        assert await shown(server, trusting) == second


async def test_another_thread_may_reload(files, trusting):
    files.renew()
    async with asyncio.timeout(BOUND), serve(echo, tls=files.tls) as server:
        second = files.renew()
        await asyncio.to_thread(server.reload_tls)
        assert await shown(server, trusting) == second


async def test_the_authorities_of_clients_are_read_again_too(files, tmp_path, authority, trusting):
    files.renew()
    others = trustme.CA()
    clients = tmp_path / "clients.pem"
    others.cert_pem.write_to_path(clients)
    mine = authority.issue_cert("me")
    mine.configure_cert(trusting)
    async with asyncio.timeout(BOUND), serve(echo, tls={**files.tls, "ca": clients}) as server:
        with pytest.raises((OSError, websockets.WebSocketException)):
            await shown(server, trusting)
        authority.cert_pem.write_to_path(clients)
        server.reload_tls()
        await shown(server, trusting)


async def test_what_cannot_be_read_again_says_what_to_do(files, certificates):
    async with asyncio.timeout(BOUND):
        async with serve(echo, tls=certificates.server) as server:
            with pytest.raises(InvalidOption, match=r"load_cert_chain\(\)"):
                server.reload_tls()
        async with serve(echo, tls={"cert": certificates.cert, "key": certificates.key}) as server:
            with pytest.raises(InvalidOption, match="paths of files"):
                server.reload_tls()
        async with serve(echo) as server:
            with pytest.raises(InvalidOption, match="without"):
                server.reload_tls()


async def test_a_context_of_the_users_own_can_be_loaded_again_by_themselves(files, trusting):
    """As the error says."""
    files.renew()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.cert, files.key)
    async with asyncio.timeout(BOUND), serve(echo, tls=context) as server:
        second = files.renew()
        context.load_cert_chain(files.cert, files.key)
        assert await shown(server, trusting) == second
