"""How a server comes to its connections: listening, accepting, the handshake, the handler."""
