"""WebSocket URLs: how one is read, what it is made of, how it is written.

The rule: a URL has one meaning, or it is refused. Nothing is stripped, skipped or guessed, so
that no two programs can take the same text for two hosts. No message and no `repr` shows
userinfo, or anything that could be userinfo in a URL that went wrong.

RFC 6455 section 3; RFC 3986; RFC 6874 (IPv6 zones); RFC 3490 (IDNA, as the standard library has
it); RFC 7617.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes

from .._errors import InvalidURL
from .._quoting import clip

__all__ = [
    "URL",
    "basic_credentials",
    "check_socket_path",
    "check_userinfo",
    "default_port",
    "host_in_url",
    "ipv6_in_url",
    "normalise_host",
    "normalise_pathname",
    "parse_port",
    "parse_url",
    "without_query",
    "without_userinfo",
    "without_zone",
]

# scheme -> (TLS, unix socket)
_SCHEMES = {
    "ws": (False, False),
    "wss": (True, False),
    "ws+unix": (False, True),
    "wss+unix": (True, True),
}
_INSTEAD = {"http": "ws", "https": "wss", "http+unix": "ws+unix", "https+unix": "wss+unix"}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_AUTHORITY = re.compile(r"[^/?]*")
# Controls (C0, DEL, C1), the space, and surrogates, which have no UTF-8.
_FORBIDDEN = re.compile("[\x00-\x20\x7f-\x9f\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NOT_IN_NAME = re.compile(r"[^a-z0-9._-]")
# The sharp s (small and capital), the final sigma, the zero-width joiner and non-joiner.
_DEVIATION = re.compile("[\u00df\u1e9e\u03c2\u200c\u200d]")
_ZONE = re.compile(r"[A-Za-z0-9._~-]+")  # "unreserved" (RFC 6874 section 2)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

# What `normalise_pathname` leaves as it is, besides letters, digits and "-._~": what a path or
# query may have (RFC 3986 sections 3.3 and 3.4), escapes, and the brackets of `a[]=1`.
_KEPT_IN_PATHNAME = "/?:@!$&'()*+,;=%[]"
_KEPT_IN_SOCKET_PATH = "/@!$&'()*+,;="
_KEPT_IN_USERINFO = "!$&'()*+,;="

_EXAMPLE = "ws://host:port/path"
_UNIX_EXAMPLE = "ws+unix:///absolute/path.sock:/pathname"


def default_port(tls: bool) -> int:
    """80, or 443 with TLS (RFC 6455 section 3)."""
    return 443 if tls else 80


@dataclass(frozen=True, slots=True)
class URL:
    """Where a WebSocket is: what `parse_url` finds in a URL. Immutable and hashable.

    `str(url)` is an equivalent URL: `parse_url(str(url)) == url`, but for the userinfo, which it
    leaves out; `with_userinfo()` has it. Its query may be a secret too: `repr` shows only that
    there is one.

    A URL that you make yourself is not checked here, but where it is used.

    Attributes:
        host: name in lower case and A-labels (IDNA), IPv4 address, or IPv6 address without
            brackets and with its zone, if it has one: "fe80::1%eth0". "localhost" where `path`
            is set.
        port: 1 to 65535; 80 or, with TLS, 443 where the URL has none.
        tls: True for wss:// and wss+unix://.
        pathname: all from the first "/" on, query included: what stands in the request line.
        username: the user name for basic authentication, decoded, or None. Not in `repr`.
        password: the password, decoded, or None. Not in `repr`.
        path: the path of the unix socket of a ws+unix:// URL, decoded, or None.
    """

    host: str
    port: int
    tls: bool
    pathname: str
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    path: str | None = None

    @property
    def authority(self) -> str:
        """The value of the `Host` header: brackets around IPv6, no port if it is the default.

        Without an IPv6 zone, which means something on this machine only (RFC 6874 section 4).
        RFC 6455 section 4.1, item 4 of the client's requirements.
        """
        return host_in_url(without_zone(self.host)) + self._port_written

    @property
    def _port_written(self) -> str:
        return "" if self.port == default_port(self.tls) else f":{self.port}"

    @property
    def authorization(self) -> str | None:
        """The value of an `Authorization` header, `Basic ...` in UTF-8; None without userinfo.

        RFC 7617 section 2. Raises InvalidURL for a colon in the user name and for controls.
        """
        if self.username is None and self.password is None:
            return None
        check_userinfo(self.username or "", self.password or "")
        return basic_credentials(self.username, self.password)

    def with_userinfo(self) -> str:
        """The URL with user name and password in it. Keep it out of logs.

        A relative socket path has no place for userinfo in its URL: there it is left out.
        """
        if self.username is None and self.password is None:
            return str(self)
        userinfo = quote(self.username or "", safe=_KEPT_IN_USERINFO)
        if self.password is not None:
            userinfo += ":" + quote(self.password, safe=_KEPT_IN_USERINFO)
        return self._written(userinfo + "@")

    def __str__(self) -> str:
        return self._written("")

    def __repr__(self) -> str:
        return (
            f"URL(host={self.host!r}, port={self.port!r}, tls={self.tls!r}, "
            f"pathname={without_query(self.pathname)!r}, path={self.path!r})"
        )

    @property
    def redacted(self) -> str:
        """The URL as logs and error messages show it: its query may hold a token."""
        return without_query(str(self))

    def _written(self, userinfo: str) -> str:
        scheme = "wss" if self.tls else "ws"
        if self.path is None:
            host = host_in_url(self.host)
            return f"{scheme}://{userinfo}{host}{self._port_written}{self.pathname}"
        path = quote(self.path.encode("utf-8", "surrogateescape"), safe=_KEPT_IN_SOCKET_PATH)
        slashes = f"//{userinfo}" if path.startswith("/") else ""
        return f"{scheme}+unix:{slashes}{path}:{self.pathname}"


def without_query(url: str) -> str:
    """A URL or the path of one, with `?...` where it has a query."""
    path, mark, _ = url.partition("?")
    return f"{path}{mark}..." if mark else url


def without_userinfo(text: str) -> str:
    """What may be a host, or some of a URL, without what stands before an "@": a password?"""
    return text.rpartition("@")[2]


def parse_url(url: str) -> URL:
    """Read a WebSocket URL (RFC 6455 section 3), as specified for `parseUrl`.

    `ws://host:port/path?query` and `wss://...`, the scheme in any case. Without a port it is 80
    or 443, without a path "/". The host may be a name (internationalised ones become A-labels),
    an IPv4 address, or an IPv6 address in brackets, the zone of which follows "%25" (RFC 6874):
    `ws://[fe80::1%25eth0]/`. Userinfo is kept for basic authentication.
    Path and query are kept as written, except that what HTTP cannot carry is percent-encoded
    (as UTF-8); a "%" that does not begin an escape stays, as in browsers.

    `ws+unix:///absolute/path.sock:/pathname` (and `wss+unix:`) is a unix socket, as in the npm
    package ws; a ":" in the socket's path is written %3A. `ws+unix:relative.sock:/pathname` is
    relative to the working directory.

    Raises:
        InvalidURL: `url` is not such a URL; `part` names the part that is wrong: "scheme",
            "userinfo", "host", "port", "path", "fragment" or "url". The message never shows
            credentials.
    """
    if not isinstance(url, str):
        raise InvalidURL(f"a URL must be str, not {type(url).__name__}")
    _refuse(_FORBIDDEN, url, "a URL", "url")
    tls, unix, rest = _split_scheme(url)
    if "#" in rest:
        raise InvalidURL(
            "a WebSocket URL cannot have a fragment (RFC 6455 section 3), but this one has '#' "
            f"at position {url.index('#')}; where '#' itself is meant, write %23",
            "fragment",
        )
    if unix:
        return _parse_unix(tls, rest)
    if not rest.startswith("//"):
        raise InvalidURL(f"a URL must have '//' after the scheme, as in {_EXAMPLE}")
    authority, tail = _split_authority(rest)
    userinfo, _, host_port = authority.rpartition("@")
    username, password = _parse_userinfo(userinfo)
    # After "ws://user:pa/ss@host" the host seems to be "user": an "@" that is still to come tells
    # that what was taken for host and port may be userinfo, which no message may show.
    quotable = "@" not in tail and "%40" not in host_port + tail
    host, port = _parse_host_port(host_port, quotable)
    return URL(
        host=host,
        port=default_port(tls) if port is None else port,
        tls=tls,
        pathname=normalise_pathname(tail),
        username=username,
        password=password,
    )


def _split_scheme(url: str) -> tuple[bool, bool, str]:
    match = _SCHEME.match(url)
    if match is None:
        what = "this one has no scheme" if url else "it is empty"
        raise InvalidURL(
            f"expected a URL that starts with ws:// or wss://, as in {_EXAMPLE}, but {what}",
            "scheme",
        )
    scheme = match.group(1).lower()
    if scheme in _SCHEMES:
        tls, unix = _SCHEMES[scheme]
        return tls, unix, url[match.end() :]
    if scheme in _INSTEAD:
        raise InvalidURL(
            f"the scheme is {scheme}, but for a WebSocket it must be {_INSTEAD[scheme]}", "scheme"
        )
    # In "user:password@host" the user would be taken for the scheme.
    what = clip(scheme) if "@" not in url and "%40" not in url else "something else"
    raise InvalidURL(
        f"the scheme must be ws or wss (or ws+unix, wss+unix), as in {_EXAMPLE}, not {what}",
        "scheme",
    )


def _split_authority(rest: str) -> tuple[str, str]:
    """`//authority` and what follows it (RFC 3986 section 3.2)."""
    match = _AUTHORITY.match(rest, 2)
    authority = match.group() if match is not None else ""
    if "\\" in authority:
        raise InvalidURL(
            "a URL cannot have '\\' before its path: some would read it as '/'", "host"
        )
    return authority, rest[2 + len(authority) :]


# Userinfo (RFC 3986 section 3.2.1, RFC 7617 section 2).


def _parse_userinfo(userinfo: str) -> tuple[str | None, str | None]:
    username, colon, password = userinfo.partition(":")
    if not username and not password:
        return None, None
    _refuse_bad_escape(userinfo, "the userinfo", "userinfo")
    name = _decoded(username)
    secret = _decoded(password) if colon else None
    check_userinfo(name, secret or "")
    return name, secret


def _decoded(text: str) -> str:
    # Bytes that are not UTF-8 become surrogates, which check_userinfo refuses: an exception from
    # the codec would carry the password with it.
    return unquote_to_bytes(text).decode("utf-8", "surrogateescape")


def check_userinfo(username: str, password: str) -> None:
    """InvalidURL unless basic authentication can carry the two (RFC 7617 section 2)."""
    if ":" in username:
        raise InvalidURL("the user name cannot have ':' (RFC 7617 section 2)", "userinfo")
    for what, text in (("user name", username), ("password", password)):
        if _SURROGATE.search(text) is not None:
            raise InvalidURL(f"the {what} must be UTF-8", "userinfo")
        if _CONTROL.search(text) is not None:
            raise InvalidURL(f"the {what} cannot have controls (RFC 7617 section 2)", "userinfo")


def basic_credentials(username: str | None, password: str | None) -> str:
    """What a header says for basic authentication, in UTF-8 (RFC 7617 section 2)."""
    userinfo = f"{username or ''}:{password or ''}"
    return "Basic " + base64.b64encode(userinfo.encode()).decode("ascii")


# Host and port (RFC 3986 sections 3.2.2 and 3.2.3).


def _parse_host_port(host_port: str, quotable: bool) -> tuple[str, int | None]:
    if host_port.startswith("["):
        address, bracket, rest = host_port[1:].partition("]")
        if not bracket:
            raise InvalidURL("the IPv6 address lacks its closing ']'", "host")
        if rest and not rest.startswith(":"):
            raise InvalidURL("only ':' and a port may follow the ']' of an IPv6 address", "host")
        return ipv6_in_url(address, quotable), parse_port(rest[1:], quotable)
    host, _, port = host_port.partition(":")
    if ":" in port:
        raise InvalidURL(
            "there are several ':' in host and port: an IPv6 address must be in brackets, as in "
            "ws://[::1]:8080/, and ':', '/' and '@' in a password must be percent-encoded",
            "host",
        )
    if "%" in host:
        _refuse_bad_escape(host, "the host", "host")
        host = unquote_to_bytes(host).decode("utf-8", "surrogateescape")
    return _name(host, quotable), parse_port(port, quotable)


def parse_port(port: str, quotable: bool = True) -> int | None:
    """The port that `port` writes in decimal digits; None for "", which is the default port."""
    if not port:
        return None
    if not (port.isascii() and port.isdigit()):
        raise InvalidURL("the port must be a number from 1 to 65535, in digits only", "port")
    digits = port.lstrip("0") or "0"
    if len(digits) > 5 or not 1 <= int(digits) <= 65535:
        what = f", not {clip(port, 20)}" if quotable else ""
        raise InvalidURL(f"the port must be from 1 to 65535{what}", "port")
    return int(digits)


def normalise_host(host: str) -> str:
    """`host` as a URL has it: lower case, A-labels, an IPv6 address without brackets.

    Takes an IPv6 address with brackets or without, its zone behind "%". Raises InvalidURL, `part`
    "host".
    """
    quotable = "@" not in host and "%40" not in host  # else userinfo, which no message may show
    if host.startswith("[") and host.endswith("]"):
        return _ipv6(host[1:-1], quotable)
    if host.count(":") > 1:
        return _ipv6(host, quotable)
    return _name(host, quotable)


def host_in_url(host: str) -> str:
    """A host as it is written in a URL: IPv6 in brackets, "%25" before its zone (RFC 6874)."""
    return f"[{host.replace('%', '%25')}]" if ":" in host else host


def without_zone(host: str) -> str:
    """A host without the zone of an IPv6 address: what follows its "%"."""
    return host.partition("%")[0]


def ipv6_in_url(literal: str, quotable: bool = True) -> str:
    """The address that is between the brackets of a URL; its zone follows "%25" there."""
    address, percent, zone = literal.partition("%")
    if percent and not zone.startswith("25"):
        raise InvalidURL(
            "the '%' before the zone of an IPv6 address is written %25 in a URL, as in "
            "ws://[fe80::1%25eth0]/ (RFC 6874 section 2)",
            "host",
        )
    return _ipv6(address + percent + _decoded(zone[2:]), quotable)


def _ipv6(literal: str, quotable: bool) -> str:
    address, percent, zone = literal.partition("%")
    if percent and _ZONE.fullmatch(zone) is None:
        raise InvalidURL(
            "the zone of an IPv6 address, which follows its '%', is the name or number of a "
            "network interface, of letters, digits, '-', '.', '_' and '~' (RFC 6874 section 2)",
            "host",
        )
    if address[:1] in ("v", "V"):
        raise InvalidURL("IPvFuture addresses (RFC 3986 section 3.2.2) are not supported", "host")
    with contextlib.suppress(ValueError):  # it has the address in its text: no cause for ours
        return str(ipaddress.IPv6Address(address)) + percent + zone
    what = f", not {clip(address)}" if quotable else ""
    raise InvalidURL(f"expected an IPv6 address{what}", "host")


def _name(host: str, quotable: bool) -> str:
    """A registered name or IPv4 address, in lower case and A-labels."""
    what = f"the host {clip(host)}" if quotable else "the host"
    if not host:
        raise InvalidURL(f"the host is missing; expected {_EXAMPLE}", "host")
    if len(host) > 254:  # also: the codec's time grows with the square of the length
        raise InvalidURL(f"the host has {len(host)} characters, but 253 are allowed", "host")
    name = host.lower()
    if not host.isascii():
        if _DEVIATION.search(host) is not None:
            raise InvalidURL(
                f"{what} has a character that IDNA 2003 and IDNA 2008 take for different hosts "
                "(RFC 5894 section 7.2): write the name in its xn-- form",
                "host",
            )
        name = ""
        with contextlib.suppress(UnicodeError):
            name = host.encode("idna").decode("ascii").lower()
        if not name:
            raise InvalidURL(f"{what} is not a valid internationalised name (RFC 3490)", "host")
    # After the codec, as it turns look-alikes such as U+2100 into ASCII with a "/" in it.
    fault = _NOT_IN_NAME.search(name)
    if fault is not None:
        which = f"has {fault.group()!a}, but " if quotable else ""
        raise InvalidURL(f"{what} {which}may have only letters, digits, '-', '_' and '.'", "host")
    labels = name.removesuffix(".").split(".")
    if not all(0 < len(label) <= 63 for label in labels):
        raise InvalidURL(f"{what} must have 1 to 63 characters between its dots", "host")
    if len(name.removesuffix(".")) > 253:
        raise InvalidURL("the host has more than 253 characters", "host")
    if _NUMBER.fullmatch(labels[-1]) is not None:
        # Resolvers take "127.1", "0x7f000001" and "2130706433" for addresses: what passed a check
        # of names would then reach the machine itself.
        with contextlib.suppress(ValueError):
            return str(ipaddress.IPv4Address(name))
        raise InvalidURL(
            f"{what} ends in a number and is not an IPv4 address: expected four numbers from 0 to "
            "255 without leading zeros",
            "host",
        )
    return name


# Path and query (RFC 3986 sections 3.3 and 3.4).


def normalise_pathname(pathname: str) -> str:
    """`pathname` fit for a request line: begins with "/", and is of ASCII that HTTP can carry.

    What else there is becomes percent-encoded UTF-8; escapes stay. Raises InvalidURL, `part`
    "path", for controls and spaces, and for "#", which would begin a fragment.
    """
    _refuse(_FORBIDDEN, pathname, "the path", "path")
    if "#" in pathname:
        raise InvalidURL(
            "the path cannot have '#' (RFC 6455 section 3: no fragment); write %23", "path"
        )
    encoded = quote(pathname, safe=_KEPT_IN_PATHNAME)
    return encoded if encoded.startswith("/") else "/" + encoded


# Unix sockets, in the form that the npm package ws has made common.


def _parse_unix(tls: bool, rest: str) -> URL:
    username = password = None
    if rest.startswith("//"):
        authority, rest = _split_authority(rest)
        userinfo, _, host = authority.rpartition("@")
        if host:
            raise InvalidURL(
                f"a URL of a unix socket has no host: expected {_UNIX_EXAMPLE}, three slashes",
                "host",
            )
        username, password = _parse_userinfo(userinfo)
    socket, _, pathname = rest.partition(":")
    if "?" in socket or not (pathname == "" or pathname[0] in "/?"):
        raise InvalidURL(
            f"after the path of the socket comes ':' and the pathname: expected {_UNIX_EXAMPLE}; "
            "write ':' and '?' in the path of the socket as %3A and %3F",
            "path",
        )
    _refuse_bad_escape(socket, "the path of the socket", "path")
    path = unquote_to_bytes(socket).decode("utf-8", "surrogateescape")
    check_socket_path(path)
    return URL(
        host="localhost",
        port=default_port(tls),
        tls=tls,
        pathname=normalise_pathname(pathname),
        username=username,
        password=password,
        path=path,
    )


def check_socket_path(path: str) -> None:
    """InvalidURL unless `path` can name a unix socket: a path, or NUL and an abstract name."""
    if not path.removeprefix("\0"):
        raise InvalidURL("the path of the socket is empty", "path")
    if "\0" in path[1:]:
        raise InvalidURL("the path of the socket contains a NUL", "path")
    try:
        path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InvalidURL("the path of the socket has a lone surrogate", "path") from None


def _refuse(pattern: re.Pattern[str], text: str, what: str, part: str) -> None:
    fault = pattern.search(text)
    if fault is not None:
        raise InvalidURL(
            f"{what} cannot have {fault.group()!a}, as it has at position {fault.start()}: "
            "controls and spaces must be percent-encoded",
            part,
        )


def _refuse_bad_escape(text: str, what: str, part: str) -> None:
    if _BAD_ESCAPE.search(text) is not None:
        raise InvalidURL(f"{what} has '%' without two hexadecimal digits; write %25", part)
