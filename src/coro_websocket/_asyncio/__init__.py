"""Everything that knows asyncio: waiting, streams over sockets and transports, dialling."""
