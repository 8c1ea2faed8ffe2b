"""coro-websocket: WebSockets that read like blocking code.

res, read, write = await connect("wss://echo.example/")
await write("Hello There!")
async for msg in read:
    print(msg.payload)
"""

from . import codec, extensions
from ._connection.awaitables import MessageStream
from ._connection.group import Group, broadcast
from ._connection.read_write import Read, Write
from ._connection.stats import BroadcastStats, Stats
from ._errors import (
    ConcurrencyError,
    ConnectionClosedError,
    InvalidMessage,
    InvalidMessageType,
    InvalidOption,
    InvalidOptionType,
    InvalidURL,
    LimitError,
    NoEventLoopError,
    OtherEventLoopError,
    PingTimeout,
    ProtocolError,
    ServeError,
    WebSocketError,
)
from ._http.client_address import ClientAddress
from ._http.http_response import HTTPResponse
from ._http.opening_errors import ConnectError, ConnectTimeout, HandshakeError, ProxyError, TLSError
from ._http.request_and_response import Request, Response
from ._opening.connect import connect
from ._options.options import Options
from ._options.tls import TLSInfo, TLSOptions
from ._options.url import URL, parse_url
from ._reconnect import reconnect, worth_retrying
from ._rfc6455.deflate import Deflate
from ._rfc6455.messages import Message
from ._server.authentication import basic_auth, bearer_auth
from ._server.connections import Connections, ServerConnection
from ._server.draining import Draining
from ._server.serve import serve
from ._server.server import Server
from ._server.systemd import systemd_notify, systemd_sockets
from ._wrap_io import wrap_io
from .codec import decoder, encoder

__all__ = [
    # Functions
    "connect",
    "reconnect",
    "worth_retrying",
    "wrap_io",
    "parse_url",
    "serve",
    "basic_auth",
    "bearer_auth",
    "systemd_sockets",
    "systemd_notify",
    "broadcast",
    # Structures
    "Message",
    "Options",
    "TLSOptions",
    "TLSInfo",
    "URL",
    "Request",
    "Response",
    "HTTPResponse",
    "ClientAddress",
    "Read",
    "Write",
    "MessageStream",
    "Stats",
    "Group",
    "BroadcastStats",
    "Server",
    "Connections",
    "ServerConnection",
    "Draining",
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
    "OtherEventLoopError",
    "ConnectError",
    "ProxyError",
    "TLSError",
    "ConnectTimeout",
    "HandshakeError",
    "ServeError",
    "ConnectionClosedError",
    "ProtocolError",
    "LimitError",
    "PingTimeout",
]
