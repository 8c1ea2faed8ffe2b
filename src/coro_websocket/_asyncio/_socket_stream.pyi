import asyncio

from ._socket import ConnectionSocket
from ._stream import Stream

class SocketStream(Stream):
    def __init__(self, loop: asyncio.AbstractEventLoop, socket: ConnectionSocket) -> None: ...
