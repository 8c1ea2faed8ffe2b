from .._runtimes.runtime import Runtime
from .stream import Stream
from .user_socket import ConnectionSocket

class SocketStream(Stream):
    def __init__(self, runtime: Runtime, socket: ConnectionSocket, kept: bool = False) -> None: ...
