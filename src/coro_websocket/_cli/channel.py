"""What the command and its worker processes tell each other, a byte each.

A socket pair for each worker: at its end, either knows that the other has gone.
"""

from __future__ import annotations

__all__ = ["CLOSE", "DRAIN", "READY", "READY_OVER_TLS", "RELOAD"]

# To a worker
DRAIN = b"d"  # all workers end: nobody else will accept
CLOSE = b"c"  # at once
RELOAD = b"r"  # the certificates

# From a worker
READY = b"+"  # it accepts connections
READY_OVER_TLS = b"s"  # the same, and they are encrypted
