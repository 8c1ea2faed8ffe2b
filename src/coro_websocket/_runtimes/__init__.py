"""What depends on the event loop, and nothing else does: time, waiting, and when bytes are sent.

A connection imports no loop. It has a `Runtime`, and its tasks wait with a `Waiter`; what opens and
serves connections has a `Loop`. The files named for a loop say what these are there. Elsewhere a
loop is named only in what is for that one alone, such as asyncio's transports.
"""
