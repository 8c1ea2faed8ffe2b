import asyncio

class Sender:
    loop: asyncio.AbstractEventLoop
