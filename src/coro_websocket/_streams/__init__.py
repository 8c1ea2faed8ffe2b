"""What carries a connection's bytes: a socket, TLS over one, a transport, memory, a raw pair.

A pipe is one of the first three while the opening handshake runs on it.

The rule: a stream knows its consumer and its runtime, and nothing of WebSockets.
"""
