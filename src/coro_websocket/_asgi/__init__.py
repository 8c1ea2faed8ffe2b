"""One connection of ours, served to an ASGI application under somebody else's HTTP server.

The rules: the server's transport is used as its protocols may use it, no more; whatever a client or
an application does costs nobody but that client. What runs for each message is native.

ASGI 3, "WebSocket", version 2.4 of its spec.
"""
