"""What each option may be: one rule an option, which checks a value and brings it to one form.

A rule takes the option's name and what was given, and returns what `Options` then holds. The
messages of what it raises show neither the values of headers nor credentials.
"""

from __future__ import annotations

import ipaddress
import math
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from .._checks import check_int, is_int, wrong_type
from .._errors import InvalidOption, InvalidOptionType, InvalidURL
from .._quoting import clip
from .._rfc6455.deflate import Deflate
from .._rfc6455.extension import ExtensionFactory
from .header_rules import check_subprotocols, is_token, normalise_headers
from .proxy import Proxy
from .tls import TLSOptions, errors_called, tls_options
from .url import (
    check_socket_path,
    check_userinfo,
    normalise_host,
    normalise_pathname,
    without_userinfo,
)

__all__ = ["NAMES_ELSEWHERE", "NAMES_ELSEWHERE_OF_SERVERS", "RULES", "duration"]

_OVERFLOW = ("wait", "drop_oldest", "keep_latest", "close")


def _host(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type(name, "str", value)
    try:
        return normalise_host(value)
    except InvalidURL as error:
        raise InvalidOption(str(error), name) from None


def _port(name: str, value: Any) -> int | None:
    return None if value is None else check_int(name, value, 1, 65535)


def _path(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise wrong_type(name, "str, bytes or a path", value)
    path = os.fsdecode(value)
    try:
        check_socket_path(path)
    except InvalidURL as error:
        raise InvalidOption(f"{name}: {error}", name) from None
    return path


def _tls(name: str, value: Any) -> bool | ssl.SSLContext | TLSOptions:
    if value is None:
        return False
    if isinstance(value, (bool, ssl.SSLContext)):
        return value
    return tls_options(value)


def _pathname(name: str, value: Any) -> str:
    if value is None:
        return "/"
    if not isinstance(value, str):
        raise wrong_type(name, "str", value)
    try:
        return normalise_pathname(value)
    except InvalidURL as error:
        raise InvalidOption(f"{name}: {error}", name) from None


def _username(name: str, value: Any) -> str | None:
    return _userinfo(name, value, lambda text: check_userinfo(text, ""))


def _password(name: str, value: Any) -> str | None:
    return _userinfo(name, value, lambda text: check_userinfo("", text))


def _userinfo(name: str, value: Any, check: Callable[[str], None]) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type(name, "str", value)
    try:
        check(value)
    except InvalidURL as error:
        raise InvalidOption(str(error), name) from None
    return value


def _subprotocol(name: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return check_subprotocols((value,))
    if not isinstance(value, Sequence) or isinstance(value, (bytes, bytearray)):
        raise wrong_type(name, "str or a sequence of str", value)
    return check_subprotocols(value)


def _headers(name: str, value: Any) -> tuple[tuple[str, str], ...]:
    return normalise_headers(value, name)


def duration(name: str, value: Any) -> float | None:
    """The rule for durations: seconds as float, or None."""
    if value is None:
        return None
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if not is_int(value) and not isinstance(value, float):
        raise wrong_type(name, "seconds (int or float), a timedelta or None", value)
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not 0 < seconds < math.inf:
        raise InvalidOption(
            f"{name} must be a finite number of seconds above 0, or None to turn it off, "
            f"not {seconds:g}",
            name,
        )
    return seconds


def _origin(name: str, value: Any) -> str | None:
    return None if value is None else _header_value(name, "Origin", value)


def _user_agent(name: str, value: Any) -> str | None:
    return None if value is None else _header_value(name, "User-Agent", value)


def _header_value(name: str, header: str, value: Any) -> str:
    if not isinstance(value, str):
        raise wrong_type(name, "str", value)
    return normalise_headers([(header, value)], name)[0][1]


def _family(name: str, value: Any) -> int | None:
    if value not in (None, socket.AF_INET, socket.AF_INET6):
        raise InvalidOption(f"{name} must be socket.AF_INET, AF_INET6 or None", name)
    found: int | None = value
    return found


def _local_addr(name: str, value: Any) -> tuple[str, int] | None:
    if value is None:
        return None
    host, port = (value, 0) if isinstance(value, str) else (None, None)
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        host, port = value
    if not isinstance(host, str) or not is_int(port):
        raise wrong_type(name, "an IP address, or a pair of that and a port", value)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # whose text has all of it, perhaps a password too
        address = None
    if address is None:
        raise InvalidOption(f"{name}: {clip(without_userinfo(host))} is not an IP address", name)
    return host, check_int(f"{name}: a port", port, 0, 65535, option=name)


def stream_socket(name: str, value: Any) -> socket.socket:
    if not isinstance(value, socket.socket):
        raise wrong_type(name, "a socket", value)
    if isinstance(value, ssl.SSLSocket):
        raise InvalidOption(
            f"{name} must be a plain socket, not an SSLSocket: TLS is set up on it by tls or a "
            "wss:// URL",
            name,
        )
    if value.fileno() < 0 or value.type != socket.SOCK_STREAM:
        raise InvalidOption(f"{name} must be an open stream socket", name)
    return value


def _sock(name: str, value: Any) -> socket.socket | None:
    if value is None:
        return None
    sock = stream_socket(name, value)
    try:
        sock.getpeername()
    except OSError:
        raise InvalidOption(f"{name} must be a socket that is connected", name) from None
    return sock


def _resolver(name: str, value: Any) -> Any:
    if value is not None and not callable(value):
        raise wrong_type(name, "a coroutine function of a host name", value)
    return value


def _proxy(name: str, value: Any) -> bool | Proxy | None:
    if value is None or isinstance(value, (bool, Proxy)):
        return value or None
    if not isinstance(value, str):
        raise wrong_type(name, "the URL of a proxy (str), True or None", value)
    return Proxy.parse(value)


def _proxy_tls(name: str, value: Any) -> bool | ssl.SSLContext | TLSOptions | None:
    if value is False:
        raise InvalidOption(f"{name} cannot be False: an https:// proxy speaks TLS", name)
    if value is None:
        return None
    with errors_called(name):
        return _tls(name, value)


def _count(name: str, value: Any) -> int | None:
    return None if value is None else check_int(name, value, 0, or_none=True)


def _limit(name: str, value: Any) -> int | None:
    if value is None:
        return None
    # The largest frame (RFC 6455 section 5.2), and what 64 bits with a sign can count.
    span = "from 1 to 2**63 - 1, or None for no limit"
    return check_int(name, value, 1, 2**63 - 1, span=span, or_none=True)


def _ping_message(name: str, value: Any) -> Any:
    if value is not None and not callable(value) and not isinstance(value, (str, bytes)):
        raise wrong_type(name, "str, bytes, a function that returns one, or None", value)
    return value


def _overflow(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise wrong_type(name, "str", value)
    if value not in _OVERFLOW:
        raise InvalidOption(f"{name} must be one of {_OVERFLOW}, not {clip(value)}", name)
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise wrong_type(name, "bool", value)
    return value


def _mask(name: str, value: Any) -> bool | None:
    return None if value is None else _flag(name, value)


def _compression(name: str, value: Any) -> Deflate | None:
    if value is None or isinstance(value, Deflate):
        return value
    if not isinstance(value, str):
        raise wrong_type(name, '"deflate", a Deflate or None', value)
    if value != "deflate":
        raise InvalidOption(f'{name} must be "deflate", a Deflate or None, not {clip(value)}', name)
    return Deflate()


def _extensions(name: str, value: Any) -> tuple[ExtensionFactory, ...]:
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise wrong_type(name, "a sequence of ExtensionFactory", value)
    for each in value:
        if not isinstance(each, ExtensionFactory):
            raise InvalidOptionType(
                f"{name} must hold ExtensionFactory objects, not {type(each).__name__}", name
            )
    names = [getattr(each, "name", None) for each in value]
    for each in names:
        if not isinstance(each, str):
            raise InvalidOptionType(f"{name}: a name must be str, not {type(each).__name__}", name)
        if not is_token(each):
            raise InvalidOption(f"{name}: {clip(each)} is not a token (RFC 6455 section 9.1)", name)
        if names.count(each) > 1:
            raise InvalidOption(f"{name}: {clip(each)} is given twice", name)
    return tuple(value)


RULES: dict[str, Callable[[str, Any], Any]] = {
    "host": _host,
    "port": _port,
    "path": _path,
    "tls": _tls,
    "pathname": _pathname,
    "username": _username,
    "password": _password,
    "subprotocol": _subprotocol,
    "headers": _headers,
    "origin": _origin,
    "user_agent": _user_agent,
    "family": _family,
    "local_addr": _local_addr,
    "sock": _sock,
    "resolver": _resolver,
    "max_redirects": _count,
    "proxy": _proxy,
    "proxy_tls": _proxy_tls,
    "timeout": duration,
    "resolve_timeout": duration,
    "connect_timeout": duration,
    "proxy_timeout": duration,
    "tls_timeout": duration,
    "handshake_timeout": duration,
    "close_timeout": duration,
    "heartbeat": duration,
    "ping_interval": duration,
    "ping_timeout": duration,
    "ping_message": _ping_message,
    "max_message_size": _limit,
    "max_head_size": _limit,
    "max_header_lines": _limit,
    "max_body_size": _count,
    "read_high_water": _limit,
    "write_high_water": _limit,
    "overflow": _overflow,
    "fragments": _flag,
    "control": _flag,
    "mask": _mask,
    "compression": _compression,
    "extensions": _extensions,
}

# Names that people know from other libraries, and what there is here.


def _instead(hint: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), f"did you mean {hint}?")


def _told(hint: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), hint)


_ANYWHERE = {
    **_instead("'tls'", "ssl ssl_context sslopt"),
    **_instead(
        "tls={'cert': ..., 'key': ...}", "cert key certfile keyfile ssl_certfile ssl_keyfile"
    ),
    **_instead("tls={'ca': ...}", "ca cafile ca_certs ssl_ca_certs"),
    **_instead("'timeout'", "open_timeout handshakeTimeout websocket_handshake_timeout"),
    **_instead("'close_timeout'", "disconnect_timeout"),
    **_instead(
        "'max_message_size'",
        "max_size max_msg_size max_message_size_bytes max_frame_size max_payload maxPayload "
        "ws_max_size",
    ),
    **_instead(
        "'read_high_water' (bytes)",
        "max_queue ws_max_queue queue_size message_queue_size read_limit",
    ),
    **_instead("'write_high_water' (bytes)", "write_limit writer_limit"),
    **_instead(
        "'ping_interval'",
        "enable_auto_ping auto_ping_idle_timeout keepalive_ping_interval_seconds ws_ping_interval",
    ),
    **_instead(
        "'ping_timeout'",
        "auto_ping_reply_timeout keepalive_ping_timeout_seconds ws_ping_timeout",
    ),
    **_instead("'ping_message', which is sent in place of a Ping", "ping_payload"),
    **_instead(
        "'compression'",
        "compress compression_options deflate enable_compression perMessageDeflate "
        "permessage_deflate",
    ),
    **_instead("'headers'", "header additional_headers extra_headers"),
    **_instead("'path'", "unix_socket unix uds"),
    **_instead("'sock'", "socket"),
    **_told("Pings are always answered", "autoping enable_auto_pong"),
    **_told("a Close is always answered", "autoclose"),
    **_told("text is always checked", "skip_utf8_validation"),
    **_told("put asyncio.timeout() around read()", "receive_timeout"),
    **_told("the event loop is the one that runs", "loop"),
    **_told("the loggers are called 'coro_websocket.client' and 'coro_websocket.server'", "logger"),
    **_told(
        "there is no class to replace: messages go by read and write",
        "class_ create_connection create_protocol klass ws_listener_factory",
    ),
    **_told(
        "there are no callbacks: iterate with 'async for msg in read'",
        "on_close on_error on_message on_message_callback on_open",
    ),
}

NAMES_ELSEWHERE = {
    **_ANYWHERE,
    **_told("the URL is the first argument", "url uri"),
    **_told("the query belongs to the URL, or to 'pathname'", "params query"),
    **_instead("'subprotocol'", "subprotocols protocol protocols"),
    **_instead("'origin'", "origins"),
    **_told("no Origin is sent unless 'origin' says so", "suppress_origin"),
    **_instead("'user_agent'", "user_agent_header"),
    **_instead("'headers' with a Cookie in it", "cookie cookies"),
    **_instead("'username' and 'password'", "auth"),
    **_instead("tls={'insecure': True}", "insecure verify verify_ssl rejectUnauthorized"),
    **_told("the certificate is checked against the URL's host", "server_hostname"),
    **_instead(
        "proxy='http://user:password@host:port'",
        "http_proxy_host http_proxy_port http_proxy_auth http_proxy_timeout proxy_type proxy_auth "
        "proxy_headers",
    ),
    **_instead("proxy=None", "http_no_proxy"),
    **_instead("'proxy_tls'", "proxy_ssl proxy_ssl_context"),
    **_instead("'max_redirects'", "redirect_limit follow_redirects followRedirects maxRedirects"),
    **_instead("'local_addr'", "local_address source_address"),
    **_told("set it on res.socket, or on a socket that you give as 'sock'", "sockopt"),
    **_told("reconnect() connects again, and takes 'retry'", "reconnect process_exception"),
}

NAMES_ELSEWHERE_OF_SERVERS = {
    **dict.fromkeys(RULES, "it is an option of connect()"),
    **_ANYWHERE,
    **_instead("'subprotocols'", "subprotocol protocol protocols"),
    **_instead("'origins'", "origin allowed_origins check_origin"),
    **_instead("'headers'", "server_header"),
    **_told("a server listens on 'host' and 'port', 'path' or 'sock'", "url uri"),
    **_told("the handler finds the path in req.path", "pathname"),
    **_told(
        "give basic_auth(...) or bearer_auth(...) as 'process_request'",
        "auth authenticate authentication check_credentials credentials on_connect basic_auth "
        "bearer_auth username password",
    ),
    **_told(
        "process_request may call req.choose_subprotocol() for what 'subprotocols' cannot say",
        "select_subprotocol",
    ),
    **_instead("'process_request', a function of the request", "health healthcheck on_request"),
    **_told("give a Router of coro_websocket.router as the handler", "router routes"),
    **_instead("'trusted_proxies'", "forwarded_allow_ips proxy_headers trusted_hosts"),
    **_instead("'max_connections'", "limit_concurrency max_clients"),
    **_told("server.serve_forever() takes 'signals' and 'drain_timeout'", "signals drain_timeout"),
    **_told(
        "'coro-websocket serve --workers' starts processes, or 'reuse_port' lets several listen",
        "workers processes",
    ),
    **_instead("'mode'", "permissions unix_socket_perms uds_mode"),
    **_told(
        "make a socket that listens as you want, and give it as 'sock'",
        "family reuse_address start_serving",
    ),
}
