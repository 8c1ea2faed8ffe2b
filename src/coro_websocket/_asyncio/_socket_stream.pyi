from .._runtimes._runtime import Runtime
from ._socket import ConnectionSocket
from ._stream import Stream

class SocketStream(Stream):
    def __init__(self, runtime: Runtime, socket: ConnectionSocket) -> None: ...
