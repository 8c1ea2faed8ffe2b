"""What a server takes from the proxies in front of it: who their clients are.

The rule: only a proxy that is trusted is believed, and none is asked before it is known to be one.

RFC 7239; the PROXY protocol: `_http/proxy_protocol.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._errors import InvalidOption
from .._http.client_address import Networks, check_networks
from .._http.forwarded import find_client
from .._http.proxy_protocol import ProxyHeaderReader, ProxyProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._http.client_address import NetworkLike
    from .._http.request_and_response import Request
    from .._runtimes.event_loop import SocketLoop
    from .._streams.user_socket import ConnectionSocket
    from .client import Client

__all__ = ["Proxies", "check_proxies"]


@dataclass(frozen=True)
class Proxies:
    """Those of one server.

    Attributes:
        trusted: whose `Forwarded` and `X-Forwarded-For` are believed.
        senders: whose connections begin with a PROXY header; None: nobody's.
        only_senders: whether nobody else may connect.
    """

    trusted: Networks
    senders: Networks | None
    only_senders: bool

    async def receive_header(
        self, loop: SocketLoop, sock: ConnectionSocket, client: Client
    ) -> None:
        """Take the PROXY header, if the connection begins with one, and note what it says.

        Raises OSError: there is no proper one, or the peer may not send it; the socket is closed.
        """
        if self.senders is None:
            return
        try:
            if self.senders.has(client.address):
                await _receive_header(loop, sock, client)
            elif self.only_senders:
                raise ProxyProtocolError(
                    "the peer is not in trusted_proxies, and only those may send a PROXY header"
                )
        except BaseException:
            sock.release()
            raise

    def bind(self, request: Request, client: Client) -> bool:
        """Say in the request who the client is, and note it; whether that is not contradicted."""
        peer = client.address
        address, scheme, contradicted = find_client(request, peer, self.trusted)
        if address != peer:
            client.proxied = address
        if scheme is None and client.over_tls:
            scheme = "wss"
        request._bind(id=client.id, client=client.proxied, scheme=scheme)
        return not contradicted


async def _receive_header(loop: SocketLoop, sock: ConnectionSocket, client: Client) -> None:
    reader = ProxyHeaderReader()
    received = False
    while reader.header is None:
        data = await loop.receive(sock, reader.wanted)
        if not data and not received:  # a probe, which is nothing to look into
            raise ConnectionResetError("the client closed the connection without sending")
        received = True
        reader.feed(data)
    if reader.header.client is not None:
        client.proxied = reader.header.client
    client.over_tls = reader.header.tls


def check_proxies(
    trusted: Iterable[NetworkLike] | None, protocol: bool | Iterable[NetworkLike]
) -> Proxies:
    """What the options `trusted_proxies` and `proxy_protocol` say, else InvalidOption."""
    networks = check_networks(() if trusted is None else trusted, "trusted_proxies")
    if protocol is False:
        return Proxies(networks, None, False)
    if protocol is True and trusted is not None and not networks:
        raise InvalidOption(
            "trusted_proxies is empty, and with proxy_protocol=True nobody else may connect",
            "trusted_proxies",
        )
    if protocol is True:
        anyone = check_networks(["0.0.0.0/0", "::/0", "unix"], "proxy_protocol")
        return Proxies(networks, anyone if trusted is None else networks, True)
    return Proxies(networks, check_networks(protocol, "proxy_protocol"), False)
