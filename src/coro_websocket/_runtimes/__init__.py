"""What depends on the event loop, and nothing else does: time, waiting, and when bytes are sent.

A connection imports no loop. It has a `Runtime`, and its tasks wait with a `Waiter`; the rooms
named for a loop say what these are there. asyncio is named here alone, and where its sockets and
transports are opened.
"""
