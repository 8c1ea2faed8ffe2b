import ssl

from .._runtimes._runtime import Runtime
from ._socket import ConnectionSocket
from ._socket_stream import SocketStream

class TLSStream(SocketStream):
    def __init__(
        self,
        runtime: Runtime,
        socket: ConnectionSocket,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
    ) -> None: ...
