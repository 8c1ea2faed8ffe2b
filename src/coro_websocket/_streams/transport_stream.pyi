import asyncio
from typing import Any

from .._runtimes.runtime import Runtime
from .fed_stream import FedStream

class TransportStream(FedStream, asyncio.BufferedProtocol):
    def __init__(
        self,
        runtime: Runtime,
        socket: Any,
        transport: asyncio.Transport,
        write_high_water: int | None,
        ended: bool = False,
        error: Exception | None = None,
    ) -> None: ...
