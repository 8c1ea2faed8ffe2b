"""Through a proxy: how it is reached, and what it is asked to connect to."""

from __future__ import annotations

import dataclasses
import socket
import ssl
from typing import TYPE_CHECKING

from .._http.opening_errors import ConnectError, ConnectTimeout, ProxyError
from .._options.proxy import SOCKS
from .._options.tls import client_context, errors_called, may_succeed_later
from .._options.url import without_zone
from .._streams.opening_pipes import SocketPipe
from .._streams.transport_pipe import open_transport, secure_tunnel
from .happy_eyeballs import connect_host
from .http_tunnel import Tunnel
from .resolve import literal_address, resolve
from .socks import SocksRefusal, SocksTunnel
from .tls import tls_error, tls_name, tls_reason
from .tunnel import open_tunnel

if TYPE_CHECKING:
    from .._options.options import Options
    from .._options.proxy import Proxy
    from .._runtimes.event_loop import SocketLoop
    from .._streams.opening_pipes import Pipe
    from .._streams.user_socket import ConnectionSocket
    from .phase import Phase

__all__ = ["connect_by_proxy", "dial_by_secure_proxy", "with_proxy_context"]


def with_proxy_context(options: Options) -> Options:
    """The options with the context that `proxy_tls` stands for.

    Raises InvalidOption if it cannot be made.
    """
    if options.proxy_tls is None:
        return options
    with errors_called("proxy_tls"):
        return dataclasses.replace(options, proxy_tls=client_context(options.proxy_tls))


async def connect_by_proxy(
    loop: SocketLoop, options: Options, proxy: Proxy, phase: Phase
) -> ConnectionSocket:
    if proxy.scheme in SOCKS:
        return await _connect_by_socks(loop, options, proxy, phase)
    sock = await _connect_to_proxy(loop, options, proxy, phase)
    async with phase.of("proxy", proxy):
        await open_tunnel(SocketPipe(loop, sock), proxy, _connect_request(options, proxy))
    return sock


async def _connect_to_proxy(
    loop: SocketLoop, options: Options, proxy: Proxy, phase: Phase
) -> ConnectionSocket:
    try:
        return await connect_host(loop, options, proxy.host, proxy.port, phase, proxy)
    except ConnectTimeout:
        raise
    except ConnectError as error:
        raise ProxyError(f"the proxy {proxy.where} cannot be reached: {error}") from error


def _connect_request(options: Options, proxy: Proxy) -> Tunnel:
    url = options.url
    return Tunnel(
        proxy,
        url.host,
        url.port,
        options.user_agent,
        options.max_head_size,
        options.max_header_lines,
    )


async def _connect_by_socks(
    loop: SocketLoop, options: Options, proxy: Proxy, phase: Phase
) -> ConnectionSocket:
    """Through a SOCKS proxy: the addresses of the server in turn, where they are resolved here."""
    url = options.url
    reasons: list[str] = []
    permanent = True
    for host in await _named_to_socks(loop, options, proxy, phase):
        try:
            tunnel = SocksTunnel(proxy, host, url.port)
            sock = await _connect_to_proxy(loop, options, proxy, phase)
            async with phase.of("proxy", proxy):
                await open_tunnel(SocketPipe(loop, sock), proxy, tunnel)
        except SocksRefusal as error:
            named = host == without_zone(url.host)
            reasons.append(str(error) if named else f"{host}: {error}")
            permanent &= error.permanent
            if not error.elsewhere:
                break
        else:
            return sock
    raise ProxyError(
        f"the proxy {proxy.where} did not connect to {url.host} port {url.port}: "
        + "; ".join(reasons),
        permanent=permanent,
    )


async def _named_to_socks(
    loop: SocketLoop, options: Options, proxy: Proxy, phase: Phase
) -> list[str]:
    """What a SOCKS proxy is to connect to: the host, or its addresses for socks4 and socks5."""
    host, port = options.url.host, options.url.port
    if proxy.scheme in ("socks4a", "socks5h") or literal_address(host, port) is not None:
        return [without_zone(host)]
    family = socket.AF_INET if proxy.scheme == "socks4" else options.family
    # Where we connect from says nothing about the server.
    theirs = dataclasses.replace(options, family=family, local_addr=None)
    async with phase.of("resolve"):
        addresses = await resolve(loop, theirs, host, port)
    return list(dict.fromkeys(without_zone(str(address[3][0])) for address in addresses))


async def dial_by_secure_proxy(
    loop: SocketLoop,
    options: Options,
    proxy: Proxy,
    context: ssl.SSLContext | None,
    phase: Phase,
) -> Pipe:
    """Through a proxy to which one speaks TLS; TLS to the server then runs inside that."""
    sock = await _connect_to_proxy(loop, options, proxy, phase)
    url = options.url
    async with phase.of("proxy", proxy):
        try:
            secure = client_context(True if options.proxy_tls is None else options.proxy_tls)
            pipe = await open_transport(
                loop, sock, tls=secure, server_hostname=tls_name(proxy.host)
            )
        except (OSError, ssl.CertificateError) as error:
            raise ProxyError(
                f"TLS with the proxy {proxy.where} failed: {tls_reason(error, 'the proxy')}",
                permanent=isinstance(error, ssl.SSLError) and not may_succeed_later(error),
            ) from error
        except BaseException:
            sock.release()
            raise
        await open_tunnel(pipe, proxy, _connect_request(options, proxy))
    if context is not None:
        async with phase.of("tls"):
            try:
                await secure_tunnel(pipe, context, tls_name(url.host), options.close_timeout)
            except (OSError, ssl.CertificateError) as error:
                raise tls_error(f"{url.host} port {url.port}", error) from error
    return pipe
