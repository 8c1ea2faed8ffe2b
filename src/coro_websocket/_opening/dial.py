"""Dialling: from options to a connected pipe, each phase with an error of its own."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING

from .._http.opening_errors import ConnectError, ConnectTimeout
from .._streams.opening_pipes import open_pipe
from .._streams.user_socket import ConnectionSocket
from .happy_eyeballs import connect_host, os_reason
from .proxies import connect_by_proxy, dial_by_secure_proxy
from .tls import tls_error, tls_name

if TYPE_CHECKING:
    from .._options.options import Options
    from .._runtimes.event_loop import SocketLoop
    from .._streams.opening_pipes import Pipe
    from .phase import Phase

__all__ = ["dial"]


async def dial(
    loop: SocketLoop,
    options: Options,
    context: ssl.SSLContext | None,
    phase: Phase,
) -> Pipe:
    """Connect to where the options say, TLS included if there is a context for it.

    Raises ConnectError with the phase that failed, TLSError and ConnectTimeout among them.
    """
    url = options.url
    where = f"{url.host} port {url.port}"
    if options.sock is not None:
        sock = ConnectionSocket.taking_over(options.sock)
    elif options.path is not None:
        phase.name = "connect"
        sock = _connect_unix(options.path)
        where = f"the unix socket {options.path!r}"
    elif (proxy := options.proxy_in_use) is not None and proxy.scheme == "https":
        return await dial_by_secure_proxy(loop, options, proxy, context, phase)
    elif proxy is not None:
        sock = await connect_by_proxy(loop, options, proxy, phase)
    else:
        sock = await connect_host(loop, options, url.host, url.port, phase)
    try:
        async with phase.of("tls") if context is not None else contextlib.nullcontext():
            return await open_pipe(
                loop,
                sock,
                tls=context,
                server_hostname=tls_name(url.host),
                close_timeout=options.close_timeout,
            )
    except ConnectTimeout:
        raise
    except (OSError, ssl.CertificateError) as error:
        raise tls_error(where, error) from error


def _connect_unix(path: str | bytes) -> ConnectionSocket:
    try:
        sock = ConnectionSocket(socket.AF_UNIX, socket.SOCK_STREAM)
    except (AttributeError, OSError) as error:
        raise ConnectError(f"cannot open a unix socket: {error}") from error
    try:
        sock.connect(path)  # at once, whether it succeeds or not
    except OSError as error:
        sock.release()
        reason = os_reason(error)
        if isinstance(error, BlockingIOError):
            reason = "as many clients as its backlog has room for wait already"
        raise ConnectError(f"cannot connect to the unix socket {path!r}: {reason}") from error
    return sock
