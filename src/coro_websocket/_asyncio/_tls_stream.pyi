import asyncio
import ssl

from .._engine import Engine
from .._options import Options
from ._socket import ConnectionSocket
from ._socket_stream import SocketStream

class TLSStream(SocketStream):
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        engine: Engine,
        options: Options,
        socket: ConnectionSocket,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        leftover: bytes = b"",
    ) -> None: ...
