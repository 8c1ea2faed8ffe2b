import asyncio

from .._runtimes.runtime import Runtime
from .memory import MemorySocket
from .stream import Stream
from .user_socket import ConnectionSocket

class TransportStream(Stream, asyncio.BufferedProtocol):
    def __init__(
        self,
        runtime: Runtime,
        socket: ConnectionSocket | MemorySocket,
        transport: asyncio.Transport,
        write_high_water: int | None,
        ended: bool = False,
        error: Exception | None = None,
    ) -> None: ...
