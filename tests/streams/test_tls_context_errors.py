"""SSLContexts of the user's own whose Python code raises, as one that pins a certificate does."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from tests.helpers.raw_peer import BOUND, clients_of, watchdog
from tests.opening.test_proxies import proxy

from coro_websocket import ProxyError, TLSError, WebSocketError, connect, serve, worth_retrying

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")


async def unused(req, read, write):
    raise AssertionError


async def failure(*where, **options):
    with pytest.raises(WebSocketError) as caught:
        async with asyncio.timeout(BOUND):
            await connect(*where, **options)
    return caught.value


class Pin(Exception):
    """What nobody else would raise."""


class UnsaidError(OSError):
    def __str__(self):
        return ""


def pinning(context_of, error, where):
    """A context like that of docs/tls.md, whose own Python code raises `error`."""

    class Pinned(ssl.SSLObject):
        def do_handshake(self):
            super().do_handshake()
            if where == "do_handshake":
                raise error

        def read(self, *arguments):
            if where == "read":
                raise error
            return super().read(*arguments)

        def write(self, data):
            if where == "write":
                raise error
            return super().write(data)

    class Context(ssl.SSLContext):
        def wrap_bio(self, *arguments, **options):
            if where == "wrap_bio":
                raise error
            return super().wrap_bio(*arguments, **options)

    context = context_of(Context)
    context.sslobject_class = Pinned
    return context


def client_side(certificates):
    def make(kind):
        context = kind(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=certificates.ca)
        return context

    return make


def server_side(certificates):
    def make(kind):
        context = kind(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.cert_path, certificates.key_path)
        return context

    return make


@pytest.fixture
async def quiet():
    """asyncio reports what is no OSError to the loop as well."""
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)


CHECKS = {
    "SSLError": ssl.SSLError("no pin of ours"),
    "SSLCertVerificationError": ssl.SSLCertVerificationError("no pin of ours"),
    "ValueError": ValueError("no pin of ours"),
    "an error of their own": Pin("no pin of ours"),
    "PermissionError": PermissionError("no pin of ours"),
    "without a text": UnsaidError(),
}
NETWORK = ("PermissionError", "without a text")


@pytest.mark.parametrize("where", ["wrap_bio", "do_handshake", "read", "write"])
@pytest.mark.parametrize("check", CHECKS)
async def test_what_a_context_of_ones_own_raises_is_a_tls_error(check, where, certificates, quiet):
    if check in NETWORK and where in ("read", "write"):
        pytest.skip("it could be the network's as well")
    error = CHECKS[check]
    said = "UnsaidError" if check == "without a text" else "no pin of ours"
    context = pinning(client_side(certificates), error, where)
    async with serve(unused, tls=certificates.server) as server:
        raised = await failure(server.url, tls=context)
        assert f"127.0.0.1 port {server.port}" in str(raised)
    assert type(raised) is TLSError
    assert raised.phase == "tls"
    assert said in str(raised)
    assert error in (raised.__cause__, raised.__cause__.__cause__)
    assert worth_retrying(raised) is (check == "without a text")


@pytest.mark.parametrize("where", ["wrap_bio", "do_handshake"])
@pytest.mark.parametrize("check", ["SSLCertVerificationError", "ValueError"])
async def test_what_a_servers_context_raises_ends_that_connection_only(
    check, where, certificates, quiet, caplog
):
    context = pinning(server_side(certificates), CHECKS[check], where)
    with caplog.at_level("INFO", "coro_websocket.server"):
        async with serve(unused, tls=context) as server:
            for _ in range(2):
                await failure(server.url, tls=certificates.client)
            async with asyncio.timeout(BOUND):
                while clients_of(server):
                    await asyncio.sleep(0)
    assert caplog.text.count("no pin of ours") == 2
    assert "never retrieved" not in caplog.text


@pytest.mark.parametrize("which", ["proxy_tls", "tls"])
@pytest.mark.parametrize("where", ["wrap_bio", "do_handshake"])
@pytest.mark.parametrize("check", ["SSLCertVerificationError", "ValueError"])
async def test_what_a_context_raises_at_or_through_a_proxy_is_ours_too(
    which, check, where, certificates, quiet
):
    error = CHECKS[check]
    options = {"tls": certificates.client, "proxy_tls": certificates.client}
    options[which] = pinning(client_side(certificates), error, where)
    async with (
        serve(unused, tls=certificates.server) as server,
        proxy(None, tls=certificates.server) as (url, _),
    ):
        raised = await failure(server.url, proxy=url, **options)
    assert type(raised) is (ProxyError if which == "proxy_tls" else TLSError)
    assert raised.phase == ("proxy" if which == "proxy_tls" else "tls")
    assert "no pin of ours" in str(raised)
    assert not worth_retrying(raised)


async def test_a_certificate_that_is_not_accepted_through_a_proxy_is_said_to_be(certificates):
    """asyncio stumbles over an error of TLS within TLS."""
    async with (
        serve(unused, tls=certificates.server) as server,
        proxy(None, tls=certificates.server) as (url, _),
    ):
        raised = await failure(server.url, proxy=url, proxy_tls=certificates.client)
    assert type(raised) is TLSError
    assert "the server's certificate is not accepted: unable to get local issuer" in str(raised)
    assert not worth_retrying(raised)
