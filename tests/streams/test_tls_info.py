"""What TLS has agreed on, as `tls` of Response and Request tells it."""

from __future__ import annotations

import asyncio
import gc
import ssl
import weakref
from dataclasses import FrozenInstanceError

import pytest
import trustme
from tests.helpers.raw_peer import BOUND, watchdog
from tests.helpers.scripted_server import linger_zero, scripted
from tests.opening.test_proxies import proxy

from coro_websocket import (
    ConnectionClosedError,
    HandshakeError,
    Request,
    Response,
    TLSInfo,
    connect,
    serve,
)
from coro_websocket.testing import FakeServer, connected_pair

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")

ONE_WRITE = 1


@pytest.fixture(autouse=True)
async def bounded():
    async with asyncio.timeout(BOUND):
        yield


@pytest.fixture(scope="module")
def authority():
    """An authority that is not that of `certificates`."""
    return trustme.CA()


def options_of(certificates, **more):
    return {"cert": certificates.cert_path, "key": certificates.key_path, **more}


def der(pem):
    return ssl.PEM_cert_to_DER_cert(pem)


async def wait_for_end(req, read, write):
    await write.wait_closed()


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
async def test_client_and_server_are_told_the_same(version, certificates):
    seen = []

    async def handler(req, read, write):
        seen.append(req)
        await write.wait_closed()

    async with (
        serve(handler, tls=options_of(certificates, protocol=version)) as server,
        connect(server.url, tls={"ca": certificates.ca}) as (res, _, _),
    ):
        info = res.tls
        assert info.version == version
        assert ("AES" in info.cipher) or ("CHACHA20" in info.cipher)
        assert info.alpn == "http/1.1"
        assert ("IP Address", "127.0.0.1") in info.peer_certificate["subjectAltName"]
        assert info.peer_certificate_der == der(certificates.cert)
        theirs = seen[0].tls
        assert (theirs.version, theirs.cipher, theirs.alpn) == (version, info.cipher, info.alpn)
        assert theirs.peer_certificate is None
        assert theirs.peer_certificate_der is None
        assert seen[0].scheme == "wss"


async def test_a_server_is_told_who_the_client_is(certificates, authority):
    seen = []

    async def handler(req, read, write):
        seen.append(req.tls)

    client = authority.issue_cert("client@example.org")
    shown = client.cert_chain_pems[0].bytes().decode()
    options = {
        "ca": certificates.ca,
        "cert": shown,
        "key": client.private_key_pem.bytes(),
    }
    asking = options_of(certificates, ca=authority.cert_pem.bytes())
    async with (
        serve(handler, tls=asking) as server,
        connect(server.url, tls=options) as (_, read, _),
    ):
        assert await read() is None
    assert ("email", "client@example.org") in seen[0].peer_certificate["subjectAltName"]
    assert seen[0].peer_certificate_der == der(shown)


async def test_without_tls_there_is_none(certificates):
    seen = []

    async def handler(req, read, write):
        seen.append((req.scheme, req.tls))

    async with serve(handler) as server:
        async with connect(server.url) as (res, read, _):
            await read()
        async with (
            proxy(None, tls=certificates.server) as (url, _),
            connect(server.url, proxy=url, proxy_tls=certificates.client) as (through, read, _),
        ):
            await read()
    assert res.tls is through.tls is None
    assert seen == [("ws", None)] * 2
    (res, _, write), (req, _, peer_write) = connected_pair()
    assert res.tls is req.tls is None
    await asyncio.gather(write.close(), peer_write.close())
    assert Response(code=101).tls is Request().tls is None


@pytest.mark.parametrize("secure", [False, True])
async def test_through_a_proxy_it_is_the_servers(secure, certificates, authority):
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    async with (
        serve(wait_for_end, tls=certificates.server) as server,
        proxy(None, tls=theirs if secure else None) as (url, _),
        connect(
            server.url,
            tls={"ca": certificates.ca},
            proxy=url,
            proxy_tls={"ca": authority.cert_pem.bytes()},
        ) as (res, _, _),
    ):
        assert res.tls.peer_certificate_der == der(certificates.cert)
        assert res.tls.version == "TLSv1.3"


async def test_a_certificate_that_is_not_verified_is_there_in_der_only(certificates):
    async with (
        serve(wait_for_end, tls=certificates.server) as server,
        connect(server.url, tls={"insecure": True}) as (res, _, _),
    ):
        assert res.tls.peer_certificate is None
        assert res.tls.peer_certificate_der == der(certificates.cert)
        assert res.tls.alpn is None  # a context of the server's own that names none


async def test_it_can_be_read_after_the_end(certificates):
    async with serve(wait_for_end, tls=certificates.server) as server:
        async with connect(server.url, tls=certificates.client) as (res, read, write):
            pass
        del read, write
        assert res.tls.version == "TLSv1.3"
        assert res.tls.peer_certificate_der == der(certificates.cert)


@pytest.mark.parametrize("how", ["reset", "garbage"])
async def test_it_can_be_read_after_tls_has_failed(how, certificates):
    def script(link):
        plain = link.sock.dup()
        link.sock = certificates.server.wrap_socket(link.sock, server_side=True)
        link.sock.settimeout(BOUND)
        link.accept()
        link.read()
        if how == "garbage":
            plain.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            link.wait_end()
        else:
            linger_zero(plain)
            link.sock.close()
        plain.close()

    with scripted(script) as server:
        url = server.url.replace("ws:", "wss:")
        res, read, write = await connect(url, tls=certificates.client)
        await write("now")
        with pytest.raises(ConnectionClosedError):
            await read()
        # OpenSSL does not tell everything any more once it has failed itself.
        assert res.tls.cipher
        if how == "reset":
            assert res.tls.version == "TLSv1.3"
            assert res.tls.peer_certificate_der == der(certificates.cert)
        await write.close()


async def test_once_read_it_keeps_nothing_of_tls_alive(certificates):
    async with serve(wait_for_end, tls=certificates.server) as server:
        async with connect(server.url, tls=certificates.client) as (res, read, write):
            held = weakref.ref(res._tls)
            info = res.tls
            assert res.tls is info
        del read, write
        for _ in range(3):
            await asyncio.sleep(0)
        gc.collect()
        assert held() is None
        assert info.version == "TLSv1.3"


async def test_it_never_changes_and_its_repr_is_short(certificates):
    async with (
        serve(wait_for_end, tls=certificates.server) as server,
        connect(server.url, tls=certificates.client) as (res, _, _),
    ):
        with pytest.raises(FrozenInstanceError):
            res.tls.version = "TLSv1.0"  # type: ignore[misc]
        with pytest.raises(AttributeError):
            res.tls = None  # type: ignore[misc]
        assert "der" not in repr(res.tls)
        assert isinstance(hash(res.tls), int)
        assert isinstance(res.tls, TLSInfo)


async def test_a_refusal_has_none():
    async with FakeServer(None, refuse=[404]) as server:
        with pytest.raises(HandshakeError) as caught:
            await connect(server.url)
    assert caught.value.response.tls is None


# Post-handshake authentication (RFC 8446 section 4.6.2)


@pytest.mark.parametrize("when", ["before the answer", "once it is open"])
async def test_a_server_may_ask_for_a_certificate_later(when, certificates, authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert_path, certificates.key_path)
    context.load_verify_locations(cadata=authority.cert_pem.bytes().decode())
    context.verify_mode = ssl.CERT_REQUIRED
    context.post_handshake_auth = True
    shown = []

    def script(link):
        link.sock = tls = context.wrap_socket(link.sock, server_side=True)
        tls.settimeout(BOUND)
        assert tls.getpeercert() is None
        if when == "before the answer":
            link.head()
            tls.verify_client_post_handshake()
            link.received[:0] = link.request
            link.accept()
        else:
            link.accept()
            link.read()
            tls.verify_client_post_handshake()
        link.write(ONE_WRITE, "who are you?")
        assert link.read().payload == b"me"
        shown.append(tls.getpeercert(True))
        link.write(ONE_WRITE, "welcome")
        link.close_received()

    client = authority.issue_cert("client@example.org")
    options = {
        "ca": certificates.ca,
        "cert": client.cert_chain_pems[0].bytes(),
        "key": client.private_key_pem.bytes(),
    }
    with scripted(script) as server:
        url = server.url.replace("ws:", "wss:")
        async with connect(url, tls=options, close_timeout=0.1) as (_, read, write):
            if when == "once it is open":
                await write("hello")
            assert (await read()).payload == "who are you?"
            await write("me")
            assert (await read()).payload == "welcome"
    assert shown == [der(client.cert_chain_pems[0].bytes().decode())]
