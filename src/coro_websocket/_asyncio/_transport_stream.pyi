import asyncio

from .._engine import Engine
from .._options import Options
from ._connection import Connection
from ._socket import ConnectionSocket

class TransportStream(Connection, asyncio.BufferedProtocol):
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        engine: Engine,
        options: Options,
        socket: ConnectionSocket,
        transport: asyncio.Transport,
        leftover: bytes = b"",
    ) -> None: ...
