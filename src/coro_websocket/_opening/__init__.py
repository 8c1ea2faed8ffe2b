"""How a client comes to a connection: dialling, proxies, TLS, redirects, the handshake.

The rule: each phase has a deadline and an error of its own, and however it is left, whatever it has
opened and not handed on is closed.
"""
