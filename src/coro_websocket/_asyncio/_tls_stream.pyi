import asyncio
import ssl

from ._socket import ConnectionSocket
from ._socket_stream import SocketStream

class TLSStream(SocketStream):
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        socket: ConnectionSocket,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
    ) -> None: ...
