"""One connection over any stream, on any runtime: reading, writing, turns, closing, keepalive.

The rule: nothing here asks which stream or which event loop it has.
"""
