"""How a client comes to a connection: dialling, proxies, TLS, redirects, the handshake."""
