"""Dialling: from options to a connected pipe, each phase with an error of its own."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import errno
import inspect
import ipaddress
import itertools
import os
import socket
import ssl
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .._errors import InvalidOptionType
from .._http.opening_errors import ConnectError, ConnectTimeout, ProxyError, TLSError
from .._options.proxy import SOCKS
from .._options.tls import client_context, errors_called, may_succeed_later, ssl_reason
from .._options.url import without_zone
from .._runtimes.lookup import look_up, scoped
from .._runtimes.loops import running_loop
from .._streams.opening_pipes import (
    Pipe,
    SocketPipe,
    open_pipe,
    open_tls_pipe_to_proxy,
    secure_tunnel,
)
from .._streams.user_socket import ConnectionSocket
from .http_tunnel import Tunnel
from .socks import SocksRefusal, SocksTunnel
from .tunnel import open_tunnel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from .._options.options import Options
    from .._options.proxy import Proxy

__all__ = ["Phase", "dial", "tls_error", "with_proxy_context"]


# X509_V_ERR_...: no issuer is known that is trusted, among them certificates that sign themselves.
UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21})
WITHOUT_TLS = {"the server": "ws://", "the proxy": "an http:// proxy"}

ATTEMPT_DELAY = 0.25  # seconds from one address to the next (RFC 8305 section 5)


class Phase:
    """How far the opening of a connection has come, and the deadlines of its phases."""

    def __init__(self, options: Options) -> None:
        self.name = "resolve"
        self._proxy: Proxy | None = None
        self._options = options

    @property
    def in_words(self) -> str:
        """The phase for an error message, with the proxy if that is what we wait for."""
        return (
            self.name if self._proxy is None else f"{self.name}, at the proxy {self._proxy.where}"
        )

    @contextlib.asynccontextmanager
    async def of(self, name: str, proxy: Proxy | None = None) -> AsyncIterator[None]:
        """Do what is in this phase; raises ConnectTimeout if that takes longer than it may.

        proxy: what it is done with, if that is not the server.
        """
        self.name, self._proxy = name, proxy
        limit: float | None = getattr(self._options, f"{name}_timeout")
        try:
            async with asyncio.timeout(limit) as deadline:
                yield
        except TimeoutError:
            if not deadline.expired():
                raise
            raise ConnectTimeout(
                f"{self._options.url.redacted} was not open within {limit:g} s ({name}_timeout); "
                f"the phase that did not end: {self.in_words}",
                name,
            ) from None


async def dial(
    loop: asyncio.AbstractEventLoop,
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
        return await _dial_by_secure_proxy(loop, options, proxy, context, phase)
    elif proxy is not None:
        sock = await _connect_by_proxy(loop, options, proxy, phase)
    else:
        sock = await _connect_host(loop, options, url.host, url.port, phase)
    try:
        async with phase.of("tls") if context is not None else contextlib.nullcontext():
            return await open_pipe(
                loop,
                sock,
                tls=context,
                server_hostname=_tls_name(url.host),
                close_timeout=options.close_timeout,
            )
    except ConnectTimeout:
        raise
    except (OSError, ssl.CertificateError) as error:
        raise TLSError(f"TLS with {where} failed: {_tls_reason(error)}") from error


def with_proxy_context(options: Options) -> Options:
    """The options with the context that `proxy_tls` stands for.

    Raises InvalidOption if it cannot be made.
    """
    if options.proxy_tls is None:
        return options
    with errors_called("proxy_tls"):
        return dataclasses.replace(options, proxy_tls=client_context(options.proxy_tls))


Address = tuple[int, int, int, tuple[object, ...]]


async def _connect_host(
    loop: asyncio.AbstractEventLoop,
    options: Options,
    host: str,
    port: int,
    phase: Phase,
    proxy: Proxy | None = None,
) -> ConnectionSocket:
    async with phase.of("resolve", proxy):
        addresses = await _resolve(loop, options, host, port)
    async with phase.of("connect", proxy):
        return await _connect_tcp(loop, addresses, options.local_addr, f"{host} port {port}")


async def _connect_by_proxy(
    loop: asyncio.AbstractEventLoop, options: Options, proxy: Proxy, phase: Phase
) -> ConnectionSocket:
    if proxy.scheme in SOCKS:
        return await _connect_by_socks(loop, options, proxy, phase)
    sock = await _connect_to_proxy(loop, options, proxy, phase)
    async with phase.of("proxy", proxy):
        await open_tunnel(SocketPipe(loop, sock), proxy, _connect_request(options, proxy))
    return sock


async def _connect_to_proxy(
    loop: asyncio.AbstractEventLoop, options: Options, proxy: Proxy, phase: Phase
) -> ConnectionSocket:
    try:
        return await _connect_host(loop, options, proxy.host, proxy.port, phase, proxy)
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
    loop: asyncio.AbstractEventLoop, options: Options, proxy: Proxy, phase: Phase
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
    loop: asyncio.AbstractEventLoop, options: Options, proxy: Proxy, phase: Phase
) -> list[str]:
    """What a SOCKS proxy is to connect to: the host, or its addresses for socks4 and socks5."""
    host, port = options.url.host, options.url.port
    if proxy.scheme in ("socks4a", "socks5h") or _literal(host, port) is not None:
        return [without_zone(host)]
    family = socket.AF_INET if proxy.scheme == "socks4" else options.family
    # Where we connect from says nothing about the server.
    theirs = dataclasses.replace(options, family=family, local_addr=None)
    async with phase.of("resolve"):
        addresses = await _resolve(loop, theirs, host, port)
    return list(dict.fromkeys(without_zone(str(address[3][0])) for address in addresses))


async def _dial_by_secure_proxy(
    loop: asyncio.AbstractEventLoop,
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
            pipe = await open_tls_pipe_to_proxy(loop, sock, secure, _tls_name(proxy.host))
        except (OSError, ssl.CertificateError) as error:
            raise ProxyError(
                f"TLS with the proxy {proxy.where} failed: {_tls_reason(error, 'the proxy')}",
                permanent=isinstance(error, ssl.SSLError) and not may_succeed_later(error),
            ) from error
        except BaseException:
            sock.release()
            raise
        await open_tunnel(pipe, proxy, _connect_request(options, proxy))
    if context is not None:
        async with phase.of("tls"):
            try:
                await secure_tunnel(pipe, context, _tls_name(url.host), options.close_timeout)
            except (OSError, ssl.CertificateError) as error:
                where = f"{url.host} port {url.port}"
                raise TLSError(f"TLS with {where} failed: {_tls_reason(error)}") from error
    return pipe


async def _resolve(
    loop: asyncio.AbstractEventLoop, options: Options, host: str, port: int
) -> list[Address]:
    """The addresses of the host, in the order to try them."""
    literal = _literal(host, port)
    if literal is not None:
        found = [literal]  # no thread is needed for that
    elif options.resolver is not None:
        found = await _ask(options.resolver, host, port)
    else:
        try:
            answers = await look_up(running_loop("connect()"), host, port, options.family or 0)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConnectError(f"cannot resolve the host {host}: {reason}", "resolve") from error
        found = [(family, kind, proto, address) for family, kind, proto, _, address in answers]
    wanted = {options.family} if options.family is not None else {each[0] for each in found}
    if options.local_addr is not None:
        wanted &= {socket.AF_INET6 if ":" in options.local_addr[0] else socket.AF_INET}
    usable = [each for each in found if each[0] in wanted]
    if not usable:
        allowed = " that family and local_addr let us use" if found else ""
        raise ConnectError(f"the host {host} has no address{allowed}", "resolve")
    return _interleaved(usable)


def _tls_name(host: str) -> str:
    """The name that the peer's certificate must have (RFC 6066 section 3, RFC 6874 section 4)."""
    return without_zone(host).removesuffix(".")


def _literal(host: str, port: int) -> Address | None:
    """The address that the host is, if it is one."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).version == 4:
            return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, (host, port)
        return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, (host, port, 0, 0)
    return None


async def _ask(resolver: Any, host: str, port: int) -> list[Address]:
    """The addresses that a resolver of the user's gives."""
    try:
        given = resolver(host)
        awaitable = inspect.isawaitable(given)
        if awaitable:
            given = await given
        listed = isinstance(given, Iterable) and not isinstance(given, (str, bytes))
        hosts = list(given) if listed else []
    except Exception as error:  # whatever a library of the user's raises
        reason = str(error) if isinstance(error, OSError) else repr(error)
        raise ConnectError(f"cannot resolve the host {host}: {reason}", "resolve") from error
    if not awaitable or not listed:
        what = "" if awaitable else "an awaitable of "
        raise InvalidOptionType(
            f"resolver must give {what}a list of IP addresses, not {type(given).__name__}",
            "resolver",
        )
    found = []
    for each in hosts:
        literal = _literal(each, port) if isinstance(each, str) else None
        if literal is None:
            raise ConnectError(
                f"the resolver must give IP addresses as str, and gave {each!r} for {host}",
                "resolve",
            )
        found.append(literal)
    return found


def _interleaved(addresses: list[Address]) -> list[Address]:
    """IPv6 and IPv4 in turn, the preferred family first (RFC 8305 section 4)."""
    first = [each for each in addresses if each[0] == addresses[0][0]]
    others = [each for each in addresses if each[0] != addresses[0][0]]
    pairs = itertools.zip_longest(first, others)
    return [each for pair in pairs for each in pair if each is not None]


async def _connect_tcp(
    loop: asyncio.AbstractEventLoop,
    addresses: list[Address],
    local_addr: tuple[str, int] | None,
    where: str,
) -> ConnectionSocket:
    """The first address that answers (RFC 8305 section 5)."""
    waiting = collections.deque(addresses)
    attempts: dict[asyncio.Task[ConnectionSocket], Address] = {}
    failures: list[tuple[object, OSError]] = []
    try:
        while waiting or attempts:
            if waiting:
                address = waiting.popleft()
                attempts[loop.create_task(_connect(loop, address, local_addr))] = address
            pause = ATTEMPT_DELAY if waiting else None
            done, _ = await asyncio.wait(
                attempts, timeout=pause, return_when=asyncio.FIRST_COMPLETED
            )
            for attempt in done:
                address = attempts.pop(attempt)
                try:
                    return attempt.result()
                except OSError as error:
                    failures.append((address[3][0], error))
    finally:
        await _abandon(attempts)
    reasons = "; ".join(f"{address}: {_why(address, error)}" for address, error in failures)
    raise ConnectError(f"cannot connect to {where}: {reasons}") from failures[-1][1]


def _why(address: object, error: OSError) -> str:
    reason = _os_reason(error)
    if error.errno == errno.EINVAL and str(address).startswith("fe80:") and "%" not in str(address):
        reason += " (a link-local address needs a zone, as in fe80::1%eth0)"
    return reason


async def _abandon(attempts: Collection[asyncio.Task[ConnectionSocket]]) -> None:
    """End the attempts that are not needed, and close what they have connected."""
    for attempt in attempts:
        attempt.cancel()
        attempt.add_done_callback(_close_unused)
    if attempts:
        await asyncio.wait(attempts)


def _close_unused(attempt: asyncio.Task[ConnectionSocket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().release()


def _connect_unix(path: str | bytes) -> ConnectionSocket:
    try:
        sock = ConnectionSocket(socket.AF_UNIX, socket.SOCK_STREAM)
    except (AttributeError, OSError) as error:
        raise ConnectError(f"cannot open a unix socket: {error}") from error
    try:
        sock.connect(path)  # at once, whether it succeeds or not
    except OSError as error:
        sock.release()
        reason = _os_reason(error)
        if isinstance(error, BlockingIOError):
            reason = "as many clients as its backlog has room for wait already"
        raise ConnectError(f"cannot connect to the unix socket {path!r}: {reason}") from error
    return sock


async def _connect(
    loop: asyncio.AbstractEventLoop, address: Address, local_addr: tuple[str, int] | None
) -> ConnectionSocket:
    family, kind, proto, remote = address
    sock = ConnectionSocket(family, kind, proto)
    try:
        if local_addr is not None:
            sock.bind(scoped(local_addr))
        remote = scoped(remote)
        if isinstance(loop, asyncio.BaseEventLoop) or family != socket.AF_INET6 or not remote[3]:
            await loop.sock_connect(sock, remote)
        else:
            await _connect_scoped(loop, sock, remote)
    except BaseException:
        sock.release()
        raise
    return sock


async def _connect_scoped(
    loop: asyncio.AbstractEventLoop, sock: ConnectionSocket, remote: tuple[Any, ...]
) -> None:
    """What `loop.sock_connect` does, but uvloop's loses the scope id."""
    error = sock.connect_ex(remote)
    if error in (errno.EINPROGRESS, errno.EWOULDBLOCK):
        writable = loop.create_future()
        loop.add_writer(sock.fileno(), _settle, writable)
        try:
            await writable
        finally:
            loop.remove_writer(sock.fileno())
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _os_reason(error: OSError) -> str:
    """What the system says; asyncio puts words of its own in place of that."""
    return os.strerror(error.errno) if error.errno else str(error)


def tls_error(host: str, port: int, error: Exception) -> TLSError:
    """What to raise where the server ends TLS once the connection is dialled."""
    return TLSError(f"TLS with {host} port {port} failed: {_tls_reason(error)}")


def _tls_reason(error: Exception, peer: str = "the server") -> str:
    """Why TLS failed, and what may help."""
    hint = ""
    if getattr(error, "verify_code", None) in UNKNOWN_ISSUER:
        option = "tls" if peer == "the server" else "proxy_tls"
        hint = f"; trust an authority of your own by {option}={{'ca': ...}}"
    elif isinstance(error, (ConnectionError, ssl.SSLEOFError)):
        hint = " (does it speak TLS on this port?)"
    return _what_failed(error, peer) + hint


def _what_failed(error: Exception, peer: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        # One that was made in Python has no `verify_message`.
        why = getattr(error, "verify_message", None) or ssl_reason(error)
        return f"{peer}'s certificate is not accepted: {why}"
    if isinstance(error, (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return f"{peer} closed the connection during the TLS handshake"
    if isinstance(error, ssl.SSLError):
        reason = ssl_reason(error)
        if "wrong version number" in reason or "record layer failure" in reason:
            return f"{reason} (does {peer} speak TLS on this port? If not, try {WITHOUT_TLS[peer]})"
        return reason
    return str(error) or type(error).__name__
