"""`pytest -p uvicorn_plugin`: uvicorn's own tests, with our class in the place of one of theirs.

It has to be there before the tests are collected: what tests/conftest.py imports by name, and
`isinstance` in the tests, then see it.
"""

import uvicorn.protocols.websockets.websockets_sansio_impl as replaced

from coro_websocket.uvicorn import WebSocketProtocol

replaced.WebSocketsSansIOProtocol = WebSocketProtocol  # type: ignore[assignment,misc]
