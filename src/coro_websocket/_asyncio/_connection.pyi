import asyncio

from .._engine import Engine

class Connection:
    loop: asyncio.AbstractEventLoop
    engine: Engine
    socket: object
    lost: bool
