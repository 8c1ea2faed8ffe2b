"""Dialling: from options to a connected pipe, each phase with an error of its own."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from .._errors import ConnectError, TLSError
from .._tls import client_context
from ._pipes import Pipe, open_pipe
from ._socket import ConnectionSocket

if TYPE_CHECKING:
    import asyncio

    from .._options import Options

__all__ = ["Phase", "dial"]


class Phase:
    """How far the opening of a connection has come, for the error of a deadline."""

    name = "resolve"


async def dial(loop: asyncio.AbstractEventLoop, options: Options, phase: Phase) -> Pipe:
    """Connect to where the options say, TLS included.

    Raises ConnectError with the phase that failed, TLSError among them.
    """
    context = client_context(options.tls) if options.tls else None
    if options.path is not None:
        phase.name = "connect"
        sock = await _connect_unix(loop, options.path)
        where = str(options.path)
    else:
        url = options.url
        where = f"{url.host} port {url.port}"
        addresses = await _resolve(loop, url.host, url.port)
        phase.name = "connect"
        sock = await _connect_tcp(loop, addresses, where)
    if context is not None:
        phase.name = "tls"
    try:
        return await open_pipe(
            loop,
            sock,
            tls=context,
            server_hostname=options.url.host.removesuffix("."),
            close_timeout=options.close_timeout,
        )
    except (OSError, ssl.CertificateError) as error:
        raise TLSError(f"TLS with {where} failed: {_tls_reason(error)}") from error


Address = tuple[int, int, int, tuple[object, ...]]


async def _resolve(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[Address]:
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConnectError(f"cannot resolve the host {host}: {reason}", "resolve") from error
    return [(family, kind, proto, address) for family, kind, proto, _, address in found]


async def _connect_tcp(
    loop: asyncio.AbstractEventLoop, addresses: list[Address], where: str
) -> ConnectionSocket:
    """The first address that answers."""
    failures = []
    for family, kind, proto, address in addresses:
        try:
            return await _connect(loop, ConnectionSocket(family, kind, proto), address)
        except OSError as error:
            failures.append((address[0], error))
    reasons = "; ".join(f"{address}: {error.strerror or error}" for address, error in failures)
    cause = failures[-1][1] if failures else None
    raise ConnectError(f"cannot connect to {where}: {reasons or 'no address'}") from cause


async def _connect_unix(loop: asyncio.AbstractEventLoop, path: str | bytes) -> ConnectionSocket:
    try:
        sock = ConnectionSocket(socket.AF_UNIX, socket.SOCK_STREAM)
        return await _connect(loop, sock, path)
    except (AttributeError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConnectError(f"cannot connect to the unix socket {path!r}: {reason}") from error


async def _connect(
    loop: asyncio.AbstractEventLoop, sock: ConnectionSocket, address: object
) -> ConnectionSocket:
    try:
        await loop.sock_connect(sock, address)  # type: ignore[arg-type]
    except BaseException:
        sock.release()
        raise
    return sock


def _tls_reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or str(error)).replace("_", " ").lower()
        if "wrong version number" in reason or "record layer failure" in reason:
            return f"{reason} (does the server speak TLS on this port?)"
        return reason
    if isinstance(error, ConnectionError):
        return "the server closed the connection during the TLS handshake"
    return str(error)
