"""WebSockets for uvicorn, on the connection of this library.

    uvicorn app:app --ws coro_websocket.uvicorn:WebSocketProtocol

or, in a program, `uvicorn.run(app, ws=WebSocketProtocol)` and `uvicorn.Config(app, ws=...)`. The
application stays as it is: FastAPI, Starlette, Litestar, Channels, python-socketio and whatever
else speaks ASGI. uvicorn's settings hold: `--ws-max-size` (counted after decompressing),
`--ws-ping-interval`, `--ws-ping-timeout`, `--ws-per-message-deflate`, `--root-path`.
"""

from ._asgi.protocol import WebSocketProtocol

__all__ = ["WebSocketProtocol"]
