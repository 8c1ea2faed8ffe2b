"""coro-websocket: WebSockets that read like blocking code.

res, read, write = await connect("wss://echo.example/")
await write("Hello There!")
async for msg in read:
    print(msg.payload)
"""

from . import codec, extensions
from ._asyncio._read_write import Read, Write
from ._client import connect
from ._errors import (
    ConcurrencyError,
    ConnectError,
    ConnectionClosedError,
    ConnectTimeout,
    HandshakeError,
    InvalidMessage,
    InvalidMessageType,
    InvalidOption,
    InvalidOptionType,
    InvalidURL,
    LimitError,
    NoEventLoopError,
    PingTimeout,
    ProtocolError,
    TLSError,
    WebSocketError,
)
from ._messages import Message
from ._options import Options
from ._response import Request, Response
from ._server import Server, serve
from ._tls import TLSOptions
from ._url import URL, parse_url
from ._wrap import wrap_io
from .codec import decoder, encoder
from .extensions import Deflate

__all__ = [
    # Functions
    "connect",
    "wrap_io",
    "parse_url",
    "serve",
    # Structures
    "Message",
    "Options",
    "TLSOptions",
    "URL",
    "Request",
    "Response",
    "Read",
    "Write",
    "Server",
    # Extensions
    "Deflate",
    "extensions",
    # Frames and handshakes by themselves
    "codec",
    "decoder",
    "encoder",
    # Errors
    "WebSocketError",
    "InvalidURL",
    "InvalidOption",
    "InvalidOptionType",
    "InvalidMessage",
    "InvalidMessageType",
    "ConcurrencyError",
    "NoEventLoopError",
    "ConnectError",
    "TLSError",
    "ConnectTimeout",
    "HandshakeError",
    "ConnectionClosedError",
    "ProtocolError",
    "LimitError",
    "PingTimeout",
]
