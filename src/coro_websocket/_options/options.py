"""Options: what a connection can be told, each value checked once and brought to one form.

The rule: whatever an Options holds has been checked, by `rules`, so that no other file
checks it again; whatever is wrong is refused before anything is opened. `repr` shows neither the
values of headers nor subprotocols nor credentials.

The fields are those of the Options table on luvit's coro-websocket page, and more; the RFC sections
are beside them.
"""

from __future__ import annotations

# At run time too, for whoever asks for the types of the fields.
import os  # noqa: TC003
import socket  # noqa: TC003
import ssl  # noqa: TC003
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, Unpack

from .._checks import check_names
from .._errors import InvalidOption, InvalidOptionType
from .._rfc6455.deflate import Deflate
from .._rfc6455.extension import ExtensionFactory  # noqa: TC001
from .proxy import Proxy, proxy_from_environment
from .rules import NAMES_ELSEWHERE, RULES
from .tls import TLSOptions  # noqa: TC001
from .url import URL, default_port, parse_url, without_query

__all__ = ["OptionValues", "Options", "Seconds"]

Seconds: TypeAlias = float | timedelta | None

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
    origin: str | None
    user_agent: str | None
    family: socket.AddressFamily | int | None
    local_addr: str | tuple[str, int] | None
    sock: socket.socket | None
    resolver: Callable[[str], Awaitable[Iterable[str]]] | None
    max_redirects: int | None
    proxy: bool | str | None
    proxy_tls: bool | ssl.SSLContext | TLSOptions | Mapping[str, Any] | None
    timeout: Seconds
    resolve_timeout: Seconds
    connect_timeout: Seconds
    proxy_timeout: Seconds
    tls_timeout: Seconds
    handshake_timeout: Seconds
    close_timeout: Seconds
    heartbeat: Seconds
    ping_interval: Seconds
    ping_timeout: Seconds
    ping_message: str | bytes | Callable[[], str | bytes | None] | None
    max_message_size: int | None
    max_head_size: int | None
    max_header_lines: int | None
    max_body_size: int | None
    read_high_water: int | None
    write_high_water: int | None
    overflow: str
    fragments: bool
    control: bool
    mask: bool | None
    compression: str | Deflate | None
    extensions: Sequence[ExtensionFactory]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to connect, and how the connection is to behave.

    Every field is optional, but `connect` needs to know where to: a URL, or `host`, `port` or
    `path`. Durations are seconds, as int, float or `timedelta`; they become float. Sizes are in
    bytes. None turns a duration or a limit off. Immutable; `dataclasses.replace` makes a changed
    copy. `repr` shows what differs from the defaults, but neither the values of headers nor
    subprotocols nor credentials, and of a query only that there is one.

    `path`, `host`, `port`, `tls`, `pathname`, `subprotocol`, `headers`, `timeout`, `heartbeat`
    and `mask` are those of luvit's coro-websocket page, whose durations are in milliseconds.

    Attributes, where to connect:
        host: str. A name (internationalised ones become A-labels), an IPv4 address, or an IPv6
            address with or without brackets, with its zone, if it has one ("fe80::1%eth0").
            Default: "127.0.0.1" if there is a `port`.
        port: int, 1 to 65535. Default None: 80, or 443 with `tls` (RFC 6455 section 3); `url.port`
            is the port in either case.
        path: str, bytes or path: a unix socket (luvit's pipe name) to connect to
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

        origin: str. The `Origin` to send, which servers for browsers may ask for (RFC 6455
            section 10.2). Default None: none.
        user_agent: str. The `User-Agent` to send; None: none. Default "", which stands for
            "coro-websocket/" and the version.
        compression: "deflate", a `Deflate` with its settings, or None: whether to offer
            permessage-deflate, as a server to agree on it (RFC 7692). A connection on which it
            is used takes about 50 KiB more. Default "deflate".
        extensions: a sequence of `ExtensionFactory`: extensions of your own to offer, the
            preferred one first (RFC 6455 section 9). Becomes a tuple. Default ().

    Attributes, how to get there; for connect only:
        family: socket.AF_INET or AF_INET6: connect only by IPv4 or IPv6. Default None: either.
            Where there are addresses of both, they are tried in turn, a quarter of a second
            apart, and the first that answers is used (RFC 8305). Holds for a proxy too, and for
            the server's addresses that we resolve for one.
        local_addr: the IP address to connect from, or `(address, port)`. Default None.
        sock: a connected socket to use in place of one of our own, which then belongs to the
            connection. Host and TLS are those of the URL; TLS is set up here, so no
            `ssl.SSLSocket`. Redirects are not followed. Default None. Not in `repr`.
        resolver: a coroutine function that takes a host name and returns its IP addresses as
            str, the preferred first. Whatever it raises becomes a ConnectError of phase
            "resolve". Default None: the system's (`socket.getaddrinfo`, in a thread).
        max_redirects: int: how many redirects (301, 302, 303, 307, 308) may be followed. None: any
            number; 0: none. To another origin go neither userinfo nor `headers` nor `subprotocol`
            nor a client certificate (with an `ssl.SSLContext`, which may hold one, none is
            followed there), and nothing is followed from wss:// to ws://. Default 10.

        proxy: the URL of a proxy to connect through: http:// or https:// (CONNECT, RFC 9110
            section 9.3.6), socks4://, socks4a://, socks5:// or socks5h:// (RFC 1928), with
            userinfo if it asks for that. True: the one that the environment names, if it names
            one. None or False: none. Default True. Not in `repr`.
        proxy_tls: how to use TLS with an https:// proxy, as for `tls`. Default None: its
            certificate is verified against the system's authorities.

    Attributes, durations in seconds:
        timeout: how long opening may take in all: resolving, connecting, TLS and handshake.
            Crossing it raises ConnectTimeout, with the phase. Default 10.
        resolve_timeout: how long resolving the host's name may take, within `timeout`. Default
            None: only `timeout` counts.
        connect_timeout: how long connecting may take, to all addresses together. Default None.
        proxy_timeout: how long the proxy may take to connect us, once we are connected to it;
            socks4:// and socks5:// may need that for each address of the server. Default None.
        tls_timeout: how long the TLS handshake may take. Default None.
        handshake_timeout: how long the opening handshake may take. Default None.
        close_timeout: how long the peer may take to answer our Close and hang up (RFC 6455
            section 7.1.1). Default 10. None: for ever, also where a client that has answered
            does not hang up.
        heartbeat: how often to send a Pong unasked (RFC 6455 section 5.5.3), which keeps
            proxies from closing an idle connection, and asks for no answer. Default None.
        ping_interval: how often to send a Ping (RFC 6455 section 5.5.2), which notices a peer
            that is gone. Default 20.
        ping_timeout: how long the peer may be silent after such a Ping before the connection is
            given up (PingTimeout). While we ourselves do not receive, an acknowledgement of the
            Ping by the peer's system is enough; the time does not run while the peer still takes
            what was sent before the Ping. Default 20.
        ping_message: str, bytes, or a function that returns one (None: nothing this time): what
            to send in place of a Ping, for peers that want a message of their own, such as
            '{"op": "ping"}'. Whatever comes then counts as a sign of life. Default None. Not in
            `repr`, as it may hold a token.

    Attributes, limits:
        max_message_size: int, bytes: the largest message to be received, all its fragments
            together. Crossing it closes with 1009 (RFC 6455 sections 7.4.1 and 10.4) and raises
            LimitError. Default 16 MiB (16777216).
        max_head_size: int, bytes: the largest head of the handshake's answer, status line and
            headers (RFC 6455 section 4.2.2). Crossing it raises HandshakeError. Default 65536.
        max_header_lines: int: the most header lines of the answer. Default 128.
        max_body_size: int, bytes: how much of a refusal's body is waited for and kept as
            `response.body`, as sent; `response.body_truncated` says if it was cut. 0: nothing.
            Default 65536.
        read_high_water: int, bytes: how much may be received and not yet read before the socket
            is left alone, so that the peer has to wait. Default 262144.
        write_high_water: int, bytes: how much may be written and not yet taken by the system
            before `write` waits. Default 65536.
        overflow: what to do once `read_high_water` is reached. "wait": leave the socket alone,
            so that the peer waits; "drop_oldest": drop waiting messages, the oldest first, until
            half of it is free; "keep_latest": drop all but the newest message that is whole;
            "close": close with 1013, after which `read` raises LimitError. `read.stats.dropped`
            counts. Default "wait".

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
    origin: str | None = None
    user_agent: str | None = ""
    family: socket.AddressFamily | int | None = None
    local_addr: tuple[str, int] | None = None
    sock: socket.socket | None = field(default=None, repr=False)
    resolver: Callable[[str], Awaitable[Iterable[str]]] | None = None
    max_redirects: int | None = 10
    proxy: bool | Proxy | None = field(default=True, repr=False)
    proxy_tls: bool | ssl.SSLContext | TLSOptions | None = None
    timeout: float | None = 10.0
    resolve_timeout: float | None = None
    connect_timeout: float | None = None
    proxy_timeout: float | None = None
    tls_timeout: float | None = None
    handshake_timeout: float | None = None
    close_timeout: float | None = 10.0
    heartbeat: float | None = None
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 20.0
    ping_message: str | bytes | Callable[[], str | bytes | None] | None = field(
        default=None, repr=False
    )
    max_message_size: int | None = 16 * 1024 * 1024
    max_head_size: int | None = 65536
    max_header_lines: int | None = 128
    max_body_size: int | None = 65536
    read_high_water: int | None = 262144
    write_high_water: int | None = 65536
    overflow: str = "wait"
    fragments: bool = False
    control: bool = False
    mask: bool | None = None
    compression: Deflate | None = _DEFLATE
    extensions: tuple[ExtensionFactory, ...] = ()

    if TYPE_CHECKING:
        # More may be given than what the fields then hold.
        def __init__(self, **options: Unpack[OptionValues]) -> None: ...

    def __post_init__(self) -> None:
        for name, rule in RULES.items():
            object.__setattr__(self, name, rule(name, getattr(self, name)))
        if self.path is not None and (self.host is not None or self.port is not None):
            raise InvalidOption(
                "path is for a unix socket, host and port are for TCP: give one or the other",
                "path",
            )
        if self.compression is not None and any(
            each.name == self.compression.name for each in self.extensions
        ):
            raise InvalidOption(
                f"{self.compression.name} is given twice: give it as compression, or as one of "
                "the extensions with compression=None",
                "extensions",
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
    def proxy_in_use(self) -> Proxy | None:
        """The proxy to connect through, if there is one."""
        if self.path is not None or self.sock is not None or self.proxy is None:
            return None
        if isinstance(self.proxy, Proxy):
            return self.proxy
        return proxy_from_environment(self.url)

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
            f"{each.name}={_redacted(each.name, value)}"
            for each in fields(self)
            if each.repr and (value := getattr(self, each.name)) != each.default
        )
        return f"Options({', '.join(shown)})"


def _redacted(name: str, value: Any) -> str:
    if name == "headers":
        return "[" + ", ".join(f"({header!r}, '[hidden]')" for header, _ in value) + "]"
    if name == "subprotocol":  # among which may be bearer tokens
        return f"({len(value)} hidden)"
    return repr(without_query(value)) if name == "pathname" else repr(value)


# Putting options together.


def _checked_names(options: Mapping[str, Any]) -> dict[str, Any]:
    check_names(options, list(RULES), "option", NAMES_ELSEWHERE)
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
    host, port, path = (RULES[name](name, given.get(name)) for name in ("host", "port", "path"))
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
    tls = None if given.get("tls") is None else RULES["tls"]("tls", given["tls"])
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
