import asyncio

from ._socket import ConnectionSocket

class Stream:
    loop: asyncio.AbstractEventLoop
    socket: ConnectionSocket
    lost: bool
