"""What carries a connection's bytes: a socket, TLS over one, a transport; and what opens them.

The rule: a stream knows its consumer and its runtime, and nothing of WebSockets.
"""
