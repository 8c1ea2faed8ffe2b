"""How a server comes to its connections: listening, accepting, opening, the handler, closing.

The rule: whatever a client does costs nobody but that client. Each has a task of its own, from
its first byte to the end of its handler; what goes wrong in it is logged and ends there.
"""
