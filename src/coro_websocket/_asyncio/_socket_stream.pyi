import asyncio

from .._engine import Engine
from .._options import Options
from ._connection import Connection
from ._socket import ConnectionSocket

class SocketStream(Connection):
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        engine: Engine,
        options: Options,
        socket: ConnectionSocket,
        leftover: bytes = b"",
    ) -> None: ...
