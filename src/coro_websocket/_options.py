"""Options: what a connection can be told, each value checked once and brought to one form.

The rule: whatever an Options holds has been checked, so that no other file checks it again;
whatever is wrong is refused before anything is opened. Error messages and `repr` show neither
the values of headers nor credentials.

The specification's Options table; DESIGN.md section 4 for the limits; the RFC sections are beside
the fields.
"""

from __future__ import annotations

import math
import os
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypedDict, Unpack

from ._errors import InvalidOption, InvalidOptionType, InvalidURL
from ._handshake import check_subprotocols
from ._headers import clip, is_token, normalise_headers
from ._tls import TLSOptions, check_names, tls_options
from ._url import (
    URL,
    check_socket_path,
    check_userinfo,
    default_port,
    normalise_host,
    normalise_pathname,
    parse_url,
)
from .extensions import Deflate, ExtensionFactory

__all__ = ["OptionValues", "Options", "Seconds"]

Seconds: TypeAlias = float | timedelta | None

# The largest frame (RFC 6455 section 5.2), and what 64 bits with a sign can count.
_LARGEST = 2**63 - 1

_DEFLATE = Deflate()


class OptionValues(TypedDict, total=False):
    """What the fields of Options may be given as, for `**options: Unpack[OptionValues]`."""

    host: str | None
    port: int | None
    path: str | bytes | os.PathLike[str] | None
    tls: bool | ssl.SSLContext | TLSOptions | Mapping[str, Any] | None
    pathname: str | None
    username: str | None
    password: str | None
    subprotocol: str | Sequence[str] | None
    headers: Iterable[tuple[str, str]] | Mapping[str, str] | None
    timeout: Seconds
    close_timeout: Seconds
    heartbeat: Seconds
    ping_interval: Seconds
    ping_timeout: Seconds
    max_message_size: int | None
    max_head_size: int | None
    max_header_lines: int | None
    read_high_water: int | None
    write_high_water: int | None
    fragments: bool
    control: bool
    mask: bool | None
    compression: str | Deflate | None
    extensions: Sequence[ExtensionFactory]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to connect, and how the connection is to behave. (The specification's Options.)

    Every field is optional, but `connect` needs to know where to: a URL, or `host`, `port` or
    `path`. Durations are seconds, as int, float or `timedelta`; they become float. Sizes are in
    bytes. None turns a duration or a limit off. Immutable; `dataclasses.replace` makes a changed
    copy. `repr` shows what differs from the defaults, but neither the values of headers nor
    credentials.

    `path`, `host`, `port`, `tls`, `pathname`, `subprotocol`, `headers`, `timeout`, `heartbeat`
    and `mask` are the specification's, whose durations are in milliseconds; the rest is ours.

    Attributes, where to connect:
        host: str. A name (internationalised ones become A-labels), an IPv4 address, or an IPv6
            address with or without brackets. Default: "127.0.0.1" if there is a `port`.
        port: int, 1 to 65535. Default None: 80, or 443 with `tls` (RFC 6455 section 3); `url.port`
            is the port in either case.
        path: str, bytes or path: a unix socket (the specification's pipe name) to connect to
            instead of `host` and `port`. Default None. One that begins with NUL is an abstract
            name on Linux.
        tls: whether to use TLS, and how: bool, an `ssl.SSLContext`, TLSOptions, or a mapping with
            their names. Default False.
        pathname: str. The path to ask the server for, query included: all after the host in a
            URL. The leading "/" may be left out; what HTTP cannot carry is percent-encoded
            (RFC 6455 section 3). Default "/".
        username: str. The user name for basic authentication (RFC 7617), as in the userinfo of
            a URL. Default None. Not in `repr`.
        password: str. Its password. Default None. Not in `repr`.

    Attributes, what to ask for:
        subprotocol: str, or a sequence of them, favourite first; becomes a tuple. Each is a
            token, none comes twice (RFC 6455 sections 1.9 and 4.1, item 10). Default ().
        headers: (name, value) pairs to send with the request besides the handshake's own;
            order and duplicates are kept. A mapping is taken too. Becomes a tuple of pairs
            (RFC 9110 section 5). Default ().

        compression: "deflate", a `Deflate` with its settings, or None: whether to offer
            permessage-deflate, as a server to agree on it (RFC 7692). A connection on which it
            is used takes about 48 KiB more. Default "deflate".
        extensions: a sequence of `ExtensionFactory`: extensions of your own to offer, the
            preferred one first (RFC 6455 section 9). Becomes a tuple. Default ().

    Attributes, durations in seconds:
        timeout: how long opening may take in all: resolving, connecting, TLS and handshake.
            Crossing it raises ConnectTimeout. Default 10.
        close_timeout: how long the peer may take to answer our Close and hang up (RFC 6455
            section 7.1.1). Default 10.
        heartbeat: how often to send a Pong unasked (RFC 6455 section 5.5.3), which keeps
            proxies from closing an idle connection, and asks for no answer. Also for wrap_io.
            Default None.
        ping_interval: how often to send a Ping (RFC 6455 section 5.5.2), which notices a peer
            that is gone. Default 20.
        ping_timeout: how long the peer may be silent after such a Ping before the connection is
            given up (PingTimeout). Default 20.

    Attributes, limits:
        max_message_size: int, bytes: the largest message to be received, all its fragments
            together. Crossing it closes with 1009 (RFC 6455 sections 7.4.1 and 10.4) and raises
            LimitError. Default 16 MiB (16777216).
        max_head_size: int, bytes: the largest head of the handshake's answer, status line and
            headers (RFC 6455 section 4.2.2). Crossing it raises HandshakeError. Default 65536.
        max_header_lines: int: the most header lines of the answer. Default 128.
        read_high_water: int, bytes: how much may be received and not yet read before the socket
            is left alone, so that the peer has to wait. Default 262144.
        write_high_water: int, bytes: how much may be written and not yet taken by the system
            before `write` waits. Default 65536.

    Attributes, what is shown:
        fragments: bool. True: `read` gives each frame of a message as it arrives, with its own
            `fin` (RFC 6455 section 5.4). Default False: whole messages.
        control: bool. True: `read` gives control frames too (RFC 6455 section 5.5), which are
            answered all the same. Default False.
        mask: bool. For wrap_io only: True masks what is sent, as a client must, False does not,
            as a server must not (RFC 6455 section 5.1). Default None.

    Raises:
        InvalidOptionType: a value is of a type that cannot be used; `option` names the field.
        InvalidOption: a value cannot be used, or two contradict each other.
    """

    host: str | None = None
    port: int | None = None
    path: str | None = None
    tls: bool | ssl.SSLContext | TLSOptions = False
    pathname: str = "/"
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    subprotocol: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    timeout: float | None = 10.0
    close_timeout: float | None = 10.0
    heartbeat: float | None = None
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 20.0
    max_message_size: int | None = 16 * 1024 * 1024
    max_head_size: int | None = 65536
    max_header_lines: int | None = 128
    read_high_water: int | None = 262144
    write_high_water: int | None = 65536
    fragments: bool = False
    control: bool = False
    mask: bool | None = None
    compression: Deflate | None = _DEFLATE
    extensions: tuple[ExtensionFactory, ...] = ()

    if TYPE_CHECKING:
        # More may be given than what the fields then hold.
        def __init__(self, **options: Unpack[OptionValues]) -> None: ...

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            object.__setattr__(self, name, rule(name, getattr(self, name)))
        if self.path is not None and (self.host is not None or self.port is not None):
            raise InvalidOption(
                "path is for a unix socket, host and port are for TCP: give one or the other",
                "path",
            )
        if self.port is not None and self.host is None:
            object.__setattr__(self, "host", "127.0.0.1")
        if self.password is not None and self.username is None:
            raise InvalidOption("password is given without username", "password")

    @classmethod
    def build(
        cls,
        url: str | URL | Options | Mapping[str, Any] | None = None,
        /,
        **options: Unpack[OptionValues],
    ) -> Options:
        """The options of a connection, from what `connect` takes.

        `url` says where to, or is an Options or a mapping of options; `options` win over it.
        What a URL says of host, port, unix socket and TLS cannot be contradicted, but TLS
        settings can be added to a wss:// URL by `tls`.

        Raises:
            InvalidURL: the URL cannot be used.
            InvalidOption: an option cannot be used, contradicts the URL, or nothing says where
                to connect.
            InvalidOptionType: an option is of the wrong type, or there is none of its name.
        """
        if isinstance(url, (str, URL)):
            given = _checked_names(options)
            _add_url(given, parse_url(url) if isinstance(url, str) else url)
        else:
            given = _merged(url, options, "a URL (str or URL), Options or a mapping of options")
        built = cls(**given)
        if built.host is None and built.path is None:
            raise InvalidOption(
                "nothing says where to connect: give a URL such as ws://host/path, or one of "
                "the options host, port and path",
                "host",
            )
        return built

    @classmethod
    def for_wrap_io(
        cls,
        options: Options | Mapping[str, Any] | None = None,
        /,
        **more: Unpack[OptionValues],
    ) -> Options:
        """The options of `wrap_io`, which connects to nothing. `more` wins over `options`."""
        return cls(**_merged(options, more, "Options or a mapping of options"))

    @property
    def extension_factories(self) -> tuple[ExtensionFactory, ...]:
        """All the extensions to negotiate: permessage-deflate last, next to the wire."""
        return self.extensions + ((self.compression,) if self.compression is not None else ())

    @property
    def url(self) -> URL:
        """Where these options connect to, the port filled in.

        Raises InvalidOption if they do not say.
        """
        if self.host is None and self.path is None:
            raise InvalidOption("none of host, port and path says where to connect", "host")
        tls = self.tls is not False
        return URL(
            host=self.host or "localhost",
            port=self.port or default_port(tls),
            tls=tls,
            pathname=self.pathname,
            username=self.username,
            password=self.password,
            path=self.path,
        )

    def __repr__(self) -> str:
        shown = (
            f"{each.name}={_shown(each.name, value)}"
            for each in fields(self)
            if each.repr and (value := getattr(self, each.name)) != each.default
        )
        return f"Options({', '.join(shown)})"


def _shown(name: str, value: Any) -> str:
    if name == "headers":
        return "[" + ", ".join(f"({header!r}, '[hidden]')" for header, _ in value) + "]"
    return repr(value)


# Putting options together.


def _checked_names(options: Mapping[str, Any]) -> dict[str, Any]:
    check_names(options, list(_RULES), "option", _NAMES_ELSEWHERE)
    return dict(options)


def _merged(base: object, options: Mapping[str, Any], expected: str) -> dict[str, Any]:
    """The options of `base` (Options, a mapping or None), with `options` over them."""
    given = _checked_names(options)
    if base is None:
        return given
    if isinstance(base, Options):
        return {each.name: getattr(base, each.name) for each in fields(base)} | given
    if not isinstance(base, Mapping):
        raise InvalidOptionType(f"expected {expected}, not {type(base).__name__}", "url")
    return _checked_names(base) | given


def _add_url(given: dict[str, Any], url: URL) -> None:
    """Add what `url` says to the options `given`, where these do not contradict it."""
    host, port, path = (_RULES[name](name, given.get(name)) for name in ("host", "port", "path"))
    if url.path is not None:
        _refuse_contradiction("host", host, None)
        _refuse_contradiction("port", port, None)
        _refuse_contradiction("path", path, url.path)
        given["path"] = url.path
    else:
        _refuse_contradiction("host", host, url.host)
        _refuse_contradiction("port", port, url.port)
        _refuse_contradiction("path", path, None)
        given["host"] = url.host
        # Left to `tls` where it is the default, so that it changes with `tls`.
        given["port"] = None if url.port == default_port(url.tls) else url.port
    tls = None if given.get("tls") is None else _tls("tls", given["tls"])
    if tls is False and url.tls:
        raise InvalidOption("the URL is wss://, which is TLS: tls cannot be False", "tls")
    if tls is not None and tls is not False and not url.tls:
        raise InvalidOption("tls is given, but the URL is ws://, without TLS: use wss://", "tls")
    given["tls"] = url.tls if tls is None else tls
    if given.get("pathname") is None:
        given["pathname"] = url.pathname
    if given.get("username") is None and given.get("password") is None:
        given["username"], given["password"] = url.username, url.password
        if url.password is not None and url.username is None:
            given["username"] = ""


def _refuse_contradiction(name: str, value: object, in_url: object) -> None:
    if value is not None and value != in_url:
        says = f"has {in_url!a}" if in_url is not None else "leads elsewhere"
        raise InvalidOption(f"{name} is {value!a}, but the URL {says}: leave one out", name)


# What each option may be. A rule takes the name and what was given, and returns what is held.


def _host(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        _wrong_type(name, "str", value)
    try:
        return normalise_host(value)
    except InvalidURL as error:
        raise InvalidOption(str(error), name) from None


def _port(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        _wrong_type(name, "int", value)
    if not 1 <= value <= 65535:
        raise InvalidOption(f"{name} must be from 1 to 65535, not {_number(value)}", name)
    return value


def _path(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, (str, bytes, os.PathLike)):
        _wrong_type(name, "str, bytes or a path", value)
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
        _wrong_type(name, "str", value)
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
        _wrong_type(name, "str", value)
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
        _wrong_type(name, "str or a sequence of str", value)
    return check_subprotocols(value)


def _headers(name: str, value: Any) -> tuple[tuple[str, str], ...]:
    return normalise_headers(value, name)


def _duration(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _wrong_type(name, "seconds (int or float), a timedelta or None", value)
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


def _limit(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        _wrong_type(name, "int or None", value)
    if not 1 <= value <= _LARGEST:
        raise InvalidOption(
            f"{name} must be from 1 to 2**63 - 1, or None for no limit, not {_number(value)}", name
        )
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        _wrong_type(name, "bool", value)
    return value


def _mask(name: str, value: Any) -> bool | None:
    return None if value is None else _flag(name, value)


def _wrong_type(name: str, expected: str, value: object) -> NoReturn:
    raise InvalidOptionType(f"{name} must be {expected}, not {type(value).__name__}", name)


def _number(value: int) -> str:
    # Python refuses to write very large numbers in decimal.
    return str(value) if value.bit_length() <= 128 else f"a number of {value.bit_length()} bits"


def _compression(name: str, value: Any) -> Deflate | None:
    if value is None or isinstance(value, Deflate):
        return value
    if not isinstance(value, str):
        _wrong_type(name, '"deflate", a Deflate or None', value)
    if value != "deflate":
        raise InvalidOption(f'{name} must be "deflate", a Deflate or None, not {clip(value)}', name)
    return Deflate()


def _extensions(name: str, value: Any) -> tuple[ExtensionFactory, ...]:
    if value is None:
        return ()
    if not isinstance(value, Sequence) or not all(
        isinstance(each, ExtensionFactory) for each in value
    ):
        _wrong_type(name, "a sequence of ExtensionFactory", value)
    names = [each.name for each in value]
    for each in names:
        if not is_token(each):
            raise InvalidOption(f"{name}: {clip(each)} is no token (RFC 6455 section 9.1)", name)
        if names.count(each) > 1:
            raise InvalidOption(f"{name}: {clip(each)} is there twice", name)
    return tuple(value)


_RULES: dict[str, Callable[[str, Any], Any]] = {
    "host": _host,
    "port": _port,
    "path": _path,
    "tls": _tls,
    "pathname": _pathname,
    "username": _username,
    "password": _password,
    "subprotocol": _subprotocol,
    "headers": _headers,
    "timeout": _duration,
    "close_timeout": _duration,
    "heartbeat": _duration,
    "ping_interval": _duration,
    "ping_timeout": _duration,
    "max_message_size": _limit,
    "max_head_size": _limit,
    "max_header_lines": _limit,
    "read_high_water": _limit,
    "write_high_water": _limit,
    "fragments": _flag,
    "control": _flag,
    "mask": _mask,
    "compression": _compression,
    "extensions": _extensions,
}

# Names that people know from other libraries, and what there is here.
_NAMES_ELSEWHERE = {
    "url": "the URL is the first argument",
    "uri": "the URL is the first argument",
    "ssl": "did you mean 'tls'?",
    "ssl_context": "did you mean 'tls'?",
    "open_timeout": "did you mean 'timeout'?",
    "additional_headers": "did you mean 'headers'?",
    "extra_headers": "did you mean 'headers'?",
    "max_size": "did you mean 'max_message_size'?",
    "max_msg_size": "did you mean 'max_message_size'?",
    "unix_socket": "did you mean 'path'?",
    "compress": "did you mean 'compression'?",
    "perMessageDeflate": "did you mean 'compression'?",
}
