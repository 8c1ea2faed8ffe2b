"""Proxies: where one is, and which one a connection goes through.

What is said to it is in `_opening.http_tunnel` and `_opening.socks`.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from .._errors import InvalidOption, InvalidURL
from .._quoting import clip
from .url import check_userinfo, host_in_url, ipv6_in_url, normalise_host, without_zone

if TYPE_CHECKING:
    from .url import URL

__all__ = ["Proxy", "proxy_from_environment"]

# Schemes and their default ports.
HTTP = {"http": 80, "https": 443}
SOCKS = {"socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}
PORTS = HTTP | SOCKS


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where a proxy is, and how to speak to it; `repr` shows no credentials.

    `source` says where it is named, if not by the option.
    """

    scheme: str
    host: str
    port: int
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    source: str = field(default="", compare=False)

    @classmethod
    def parse(cls, url: str, source: str = "") -> Proxy:
        """Read a proxy's URL; InvalidOption says what is wrong, without the credentials."""

        def wrong(what: str) -> InvalidOption:
            return InvalidOption(f"{source or 'proxy'}: {what}", "proxy")

        # Errors of the standard library show what they stumble on, which may be a password:
        # ours are raised outside their handlers, so that they are not the context of ours either.
        host, port = "", None
        with contextlib.suppress(ValueError):  # InvalidURL is one
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
            named = parts.hostname or ""
            host = ipv6_in_url(named) if ":" in named else normalise_host(named)
        if not host or port == 0:
            raise wrong("its host or port cannot be used (in a password, '/' is %2F and '@' %40)")
        scheme = parts.scheme
        if scheme == "socks" and source:  # GNOME's name for it
            scheme = "socks5h"
        if scheme not in PORTS:
            # In "user:password@host://" the user would be taken for the scheme.
            what = clip(scheme) if "@" not in url else "something else"
            raise wrong(f"the scheme of a proxy must be one of {', '.join(PORTS)}, not {what}")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise wrong("the URL of a proxy cannot have a path, a query or a fragment")
        username = password = None
        with contextlib.suppress(UnicodeError):
            username = None if parts.username is None else unquote(parts.username, errors="strict")
            password = None if parts.password is None else unquote(parts.password, errors="strict")
            for text in (username, password):
                (text or "").encode()
            fault = _credentials_fault(scheme, username, password)
            if fault:
                raise wrong(fault)
            return cls(scheme, host, port or PORTS[scheme], username, password, source)
        raise wrong("its user name and password must be UTF-8")

    @property
    def where(self) -> str:
        """The proxy for an error message."""
        source = f" (from {self.source})" if self.source else ""
        return f"{self.scheme}://{host_in_url(self.host)}:{self.port}{source}"

    @property
    def has_credentials(self) -> bool:
        return self.username is not None or self.password is not None


def _credentials_fault(scheme: str, username: str | None, password: str | None) -> str:
    """What the proxy's protocol cannot carry of these; "" if it carries them."""
    if scheme in HTTP:
        try:
            check_userinfo(username or "", password or "")
        except InvalidURL as error:
            return str(error)
    elif username is None:
        pass
    elif scheme in ("socks4", "socks4a"):
        if "\0" in username:
            return "the user name cannot have NUL in SOCKS4"
        if password is not None:
            return "SOCKS4 has a user name, but no password"
    elif not all(0 < len((text or "").encode()) <= 255 for text in (username, password)):
        return (
            "SOCKS5 takes a user name and a password, each of 1 to 255 bytes of UTF-8 "
            "(RFC 1929 section 2)"
        )
    return ""


def proxy_from_environment(url: URL) -> Proxy | None:
    """The proxy that the environment names for this URL, as urllib sees it.

    `https_proxy` for wss, `http_proxy` for ws, else `all_proxy`; `no_proxy` names hosts without
    one. Never for this machine itself, nor for unix sockets.

    Raises InvalidOption, which names the variable, if that is not the URL of a proxy.
    """
    if url.path is not None or _is_loopback(url.host):
        return None
    found = urllib.request.getproxies()
    for kind in ("https" if url.tls else "http", "all"):
        if named := found.get(kind):
            if any(urllib.request.proxy_bypass(f"{host}:{url.port}") for host in _forms(url.host)):
                return None
            return Proxy.parse(named, _variable(kind, named))
    return None


def _forms(host: str) -> tuple[str, ...]:
    """How `no_proxy` may write a host.

    IPv6 in brackets or without its zone, a name with a dot at its end.
    """
    if ":" in host:
        address = without_zone(host)
        return host, f"[{host}]", host_in_url(host), address, f"[{address}]"
    name = host.removesuffix(".")
    return name, f"{name}."


def _variable(kind: str, value: str) -> str:
    for name in (f"{kind}_proxy", f"{kind}_proxy".upper()):
        if os.environ.get(name) == value:
            return name
    return "the system's settings"


def _is_loopback(host: str) -> bool:
    name = host.removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
