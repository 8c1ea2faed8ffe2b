"""The scope that an application is called with: what its client asks for, and who that is.

ASGI, "WebSocket connection scope".
"""

from __future__ import annotations

import os
import urllib.parse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from .._http.request_and_response import Request

    class Transport(Protocol):
        def get_extra_info(self, name: str) -> Any: ...


__all__ = ["Scope", "client_in_words", "path_in_words", "peer_of", "websocket_scope"]

Scope = dict[str, Any]

SPEC_VERSION = "2.4"


def websocket_scope(
    request: Request,
    transport: Transport,
    *,
    asgi_version: str,
    root_path: str,
    state: Mapping[str, Any],
) -> Scope:
    """The scope of a request for a WebSocket that came over the transport.

    root_path: where the application is mounted; both paths begin with it.
    state: what the application's lifespan has left: copied, so that each connection has its own.
    """
    raw_path, _, query = request.pathname.partition("?")
    return {
        "type": "websocket",
        "asgi": {"version": asgi_version, "spec_version": SPEC_VERSION},
        "http_version": "1.1",
        "scheme": "wss" if transport.get_extra_info("sslcontext") else "ws",
        "server": _address(transport.get_extra_info("sockname")),
        "client": peer_of(transport),
        "root_path": root_path,
        "path": root_path + urllib.parse.unquote(raw_path),
        "raw_path": root_path.encode() + raw_path.encode("ascii"),
        "query_string": query.encode("ascii"),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in request],
        "subprotocols": list(request.subprotocols),
        "state": dict(state),
        "extensions": {"websocket.http.response": {}},
    }


def peer_of(transport: Transport) -> tuple[str, int] | None:
    """The client's host and port; None where it has none, as on a unix socket."""
    address = _address(transport.get_extra_info("peername"))
    return None if address is None or address[1] is None else (address[0], address[1])


def _address(address: Any) -> tuple[str, int | None] | None:
    """What an application is given of a socket's address: host and port, or a path and None."""
    if isinstance(address, (tuple, list)) and len(address) >= 2:
        return str(address[0]), int(address[1])
    if isinstance(address, (str, bytes)) and address:
        return os.fsdecode(address), None
    return None


# For the log, in the words of uvicorn's


def client_in_words(client: tuple[str, int] | None) -> str:
    return "" if client is None else f"{client[0]}:{client[1]}"


def path_in_words(scope: Scope) -> str:
    """The path alone: in a query there may be a token."""
    return urllib.parse.quote(scope["path"])
