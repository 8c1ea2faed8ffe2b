"""A connection until its opening handshake is done: dialled and accepted, on every loop."""

from __future__ import annotations

import contextlib
import ssl

import pytest
from tests.runtimes.test_loops import listening, on_every_loop, turns

from coro_websocket import ConnectTimeout, Options, TLSError
from coro_websocket._opening.dial import dial
from coro_websocket._opening.phase import Phase
from coro_websocket._streams.opening_pipes import open_pipe
from coro_websocket._streams.user_socket import ConnectionSocket


async def dialled(loop, listener, context=None, **options):
    """A pipe to the listener."""
    built = Options(host="127.0.0.1", port=listener.getsockname()[1], **options)
    return await dial(loop, built, context, Phase(loop, built))


@contextlib.asynccontextmanager
async def answering(loop, listener, context=None):
    """A server on the listener that says to one client, in capitals, what that has said."""

    async def answer():
        sock = ConnectionSocket.taking_over((await loop.accept(listener))[0])
        pipe = await open_pipe(loop, sock, tls=context, server_side=True)
        try:
            while data := await pipe.receive():
                await pipe.send(data.upper())
        finally:
            pipe.close()

    task = loop.spawn(answer)
    try:
        yield
    finally:
        task.cancel()
        await loop.wait([task])


@pytest.mark.parametrize("tls", [False, True])
@on_every_loop
async def test_bytes_go_both_ways_before_there_is_a_connection(loop, tls, certificates):
    server, client = (certificates.server, certificates.client) if tls else (None, None)
    with listening() as listener:
        async with answering(loop, listener, server):
            pipe = await dialled(loop, listener, client)
            assert (pipe.ssl_object is not None) == tls
            await pipe.send(b"hello")
            assert await pipe.receive() == b"HELLO"
            pipe.close()
            await turns(loop)


@on_every_loop
async def test_a_certificate_that_is_not_trusted_is_told(loop, certificates):
    async def refused():
        sock = ConnectionSocket.taking_over((await loop.accept(listener))[0])
        with pytest.raises(OSError):
            await open_pipe(loop, sock, tls=certificates.server, server_side=True)

    with listening() as listener:
        task = loop.spawn(refused)
        with pytest.raises(TLSError, match="certificate is not accepted"):
            await dialled(loop, listener, ssl.create_default_context())
        await loop.wait([task])


@on_every_loop
async def test_a_server_that_says_nothing_runs_into_the_deadline_of_its_phase(loop, certificates):
    with listening() as listener:
        with pytest.raises(ConnectTimeout, match=r"tls_timeout") as caught:
            await dialled(loop, listener, certificates.client, tls_timeout=0.05)
        assert caught.value.phase == "tls"
