"""The opening handshake (RFC 6455 section 4), without I/O: heads, requests, responses, errors.

The rule: what comes from the network is checked here and nowhere else.
"""
