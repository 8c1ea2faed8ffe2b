"""Peers that we did not write, as servers and as clients."""
