from asyncio import Future as Result  # to asyncio's users; elsewhere it is like one

__all__ = ["Result"]
