"""Redirects of the opening handshake: where to, and what is not taken along.

RFC 9110 section 15.4; RFC 6455 section 4.1 leaves the rules to the client: nothing that may be a
credential goes to another origin, and nothing leads from TLS to a connection without.
"""

from __future__ import annotations

import dataclasses
import re
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from .._errors import InvalidURL
from .._http.opening_errors import HandshakeError
from .._options.tls import TLSOptions
from .._options.url import default_port, parse_url, without_zone

if TYPE_CHECKING:
    from .._http.request_and_response import Response
    from .._options.options import Options
    from .._options.url import URL

__all__ = ["is_redirect", "redirected"]

LONGEST = 8192  # characters of a Location; few servers take more in a request line
STATUS = frozenset({301, 302, 303, 307, 308})
_NOT_ASCII = re.compile("[\x80-\xff]")
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def is_redirect(response: Response | None) -> bool:
    """Whether an answer says to ask elsewhere."""
    return response is not None and response.code in STATUS and "Location" in response


def redirected(options: Options, response: Response | None) -> Options | None:
    """The options for where a refusal sends us; None if it sends us nowhere.

    Raises HandshakeError if it sends us where we do not go.
    """
    if response is None or not is_redirect(response) or options.sock is not None:
        return None
    here = options.url
    there = _joined(here, response["Location"], response)
    if there.host == without_zone(here.host):  # a server knows nothing of our zones
        there = dataclasses.replace(there, host=here.host)
    if here.tls and not there.tls:
        raise HandshakeError(
            f"{here.redacted} redirects to {there.redacted}, without TLS, which is not followed",
            response,
        )
    if _origin(here) == _origin(there):
        return dataclasses.replace(options, pathname=there.pathname)
    tls = options.tls or there.tls
    if isinstance(tls, ssl.SSLContext):
        raise HandshakeError(
            f"{here.redacted} redirects to {there.redacted}, another origin, where an "
            "ssl.SSLContext of yours is not used, as it may hold a client certificate: give "
            "TLSOptions as tls, or connect to that URL itself",
            response,
        )
    if isinstance(tls, TLSOptions):
        tls = dataclasses.replace(tls, cert=None, key=None)  # which say who we are
    return dataclasses.replace(
        options,
        path=None,
        host=there.host,
        port=None if there.port == default_port(there.tls) else there.port,
        tls=tls,
        pathname=there.pathname,
        username="" if there.password is not None and not there.username else there.username,
        password=there.password,
        headers=(),
        subprotocol=(),
    )


def _joined(here: URL, location: str, response: Response) -> URL:
    """The URL that a Location is, seen from here; http is ws, and a fragment means nothing."""
    if len(location) > LONGEST:
        raise HandshakeError(
            f"{here.redacted} redirects to a URL of {len(location)} characters, but at most "
            f"{LONGEST} are followed",
            response,
        )
    # Bytes beyond ASCII, which latin-1 has made characters of.
    location = _NOT_ASCII.sub(lambda match: f"%{ord(match.group()):02X}", location.strip(" \t"))
    base = f"http{'s' if here.tls else ''}://{here.authority}{here.pathname}"
    try:
        scheme, colon, rest = urljoin(base, location).partition(":")
        if scheme.lower() not in _SCHEMES:  # a server may not send us to a unix socket
            raise InvalidURL("a redirect is to http, https, ws or wss", "scheme")
        return parse_url(_SCHEMES[scheme.lower()] + colon + rest.partition("#")[0])
    except ValueError as error:  # InvalidURL among them
        part = getattr(error, "part", "url")
    # Not raised above: errors of the standard library show the URL, and a password in it.
    raise HandshakeError(
        f"{here.redacted} redirects to what is not a WebSocket URL: its {part} is wrong", response
    )


def _origin(url: URL) -> tuple[object, ...]:
    return url.tls, url.host, url.port
