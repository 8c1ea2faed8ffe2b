import asyncio

from .._runtimes.runtime import Runtime
from .fed_stream import FedStream
from .memory import MemorySocket
from .user_socket import ConnectionSocket

class TransportStream(FedStream, asyncio.BufferedProtocol):
    def __init__(
        self,
        runtime: Runtime,
        socket: ConnectionSocket | MemorySocket,
        transport: asyncio.Transport,
        write_high_water: int | None,
        ended: bool = False,
        error: Exception | None = None,
    ) -> None: ...
