import ssl

from .._runtimes.runtime import Runtime
from .socket_stream import SocketStream
from .user_socket import ConnectionSocket

class TLSStream(SocketStream):
    def __init__(
        self,
        runtime: Runtime,
        socket: ConnectionSocket,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        kept: bool = False,
    ) -> None: ...
