import asyncio

from .._runtimes._runtime import Runtime
from ._memory import MemorySocket
from ._socket import ConnectionSocket
from ._stream import Stream

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
