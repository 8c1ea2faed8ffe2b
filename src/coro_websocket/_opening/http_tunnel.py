"""CONNECT: one request to an HTTP proxy to connect on to a server, without I/O.

RFC 9110 section 9.3.6 (CONNECT) and section 11.7 (authentication).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11

from .._http.headers import header_bytes
from .._http.opening_errors import HandshakeError, ProxyError
from .._http.parsing import HeadBuffer, parse_answer
from .._options.header_rules import normalise_headers
from .._options.url import basic_credentials, host_in_url, without_zone
from .._quoting import clip

if TYPE_CHECKING:
    from .._http.request_and_response import Response
    from .._options.proxy import Proxy

__all__ = ["Tunnel"]

UNAUTHENTICATED = 407


class Tunnel:
    """One CONNECT request.

    Send `request` whenever there is some, then pass what comes to `receive` until it says True.
    """

    def __init__(
        self,
        proxy: Proxy,
        host: str,
        port: int,
        user_agent: str | None,
        max_head_size: int | None,
        max_header_lines: int | None,
    ) -> None:
        self._proxy = proxy
        self._http = h11.Connection(h11.CLIENT)
        self._heads = HeadBuffer("the proxy's answer", max_head_size, max_header_lines)
        target = f"{host_in_url(without_zone(host))}:{port}"
        pairs = [("Host", target)]
        if user_agent:
            pairs.append(("User-Agent", user_agent))
        if proxy.has_credentials:
            credentials = basic_credentials(proxy.username, proxy.password)
            pairs.append(("Proxy-Authorization", credentials))
        headers = header_bytes(normalise_headers(pairs))
        request = h11.Request(method="CONNECT", target=target, headers=headers)
        self.request = self._http.send(request) or b""

    def receive(self, data: bytes) -> bool:
        """Take bytes of the proxy; True once the tunnel is there.

        Raises ProxyError if the proxy refuses, or does not speak HTTP.
        """
        self.request = b""
        where = self._proxy.where
        if not data:
            raise ProxyError(f"the proxy {where} closed the connection without an answer")
        self._heads.feed(data)
        answer = None
        while answer is None or answer.code < 200:
            try:
                head = self._heads.next_head()
                if head is None:
                    return False
                answer = parse_answer(self._http, head, "the proxy's answer")
            except HandshakeError as error:
                raise ProxyError(
                    f"the proxy {where} does not speak HTTP: {error}", permanent=True
                ) from None
        if not 200 <= answer.code < 300:
            raise self._refusal(answer)
        if self._heads.rest:
            raise ProxyError(
                f"the proxy {where} sent {len(self._heads.rest)} bytes after its answer, where "
                "the server has nothing to say yet",
                permanent=True,
            )
        return True

    def _refusal(self, answer: Response) -> ProxyError:
        reason = f" {clip(answer.reason)}" if answer.reason else ""
        hint = ""
        if answer.code == UNAUTHENTICATED:
            hint = ", which asks for a user name and password"
            if self._proxy.has_credentials:
                hint = ", which rejects the user name and password that it was given"
        return ProxyError(
            f"the proxy {self._proxy.where} refused the tunnel: {answer.code}{reason}{hint} "
            "(RFC 9110 section 9.3.6)",
            response=answer,
        )
