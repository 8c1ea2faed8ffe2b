import asyncio

from .runtime import Runtime
from .waiter import Waiter

class AsyncioRuntime(Runtime): ...

class AsyncioWaiter(Waiter):
    def __init__(self, loop: object) -> None: ...

def runtime_of(loop: asyncio.AbstractEventLoop) -> Runtime: ...
