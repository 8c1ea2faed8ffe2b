"""A server's opening handshake in one go, where nothing comes between its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coro_websocket._http.request_and_response import Request
    from coro_websocket._http.server_handshake import ServerHandshake

__all__ = ["receive"]


def receive(server: ServerHandshake, data: bytes) -> Request | None:
    """Take bytes; the Request once it is there, held to the rules of an opening handshake."""
    request = server.receive(data)
    if request is not None:
        server.check()
    return request
