"""What a connection has counted."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BroadcastStats", "Stats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """The counters of a connection at one moment: `read.stats`, `write.stats`.

    Attributes:
        messages_in: text and binary messages that were taken from what came.
        messages_out: text and binary messages that were handed to be sent.
        frames_in: frames that were taken from what came, control frames included.
        frames_out: frames that were handed to be sent, control frames included.
        bytes_in: bytes that came, from behind the opening handshake; without TLS's own.
        bytes_out: bytes that were given to the system to send; without TLS's own.
        dropped: messages that nobody read in time, and that were dropped as the option
            `overflow` says, or because the connection was being closed.
        latency: seconds that the last answered Ping took to the peer and back; None before.
        compression_in: bytes that came for each byte after decompressing, of compressed
            messages: 0.25 is a quarter. None if there were none.
        compression_out: bytes sent for each byte before compressing, likewise.
    """

    messages_in: int
    messages_out: int
    frames_in: int
    frames_out: int
    bytes_in: int
    bytes_out: int
    dropped: int
    latency: float | None
    compression_in: float | None
    compression_out: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BroadcastStats:
    """What has become of messages to a group: of one, or of all up to now (`group.stats`).

    Each counts once for every member it was for. A member is slow while more than its
    `write_high_water` bytes wait for its peer to take them.

    Attributes:
        sent: those that were handed to be sent.
        waiting: those that wait now for a slow member (`slow="latest"`).
        replaced: those that waited until a newer one took their place.
        dropped: those that were not for a slow member (`slow="drop"`), or that waited until
            their member had left.
        closed: those for which a slow member was closed instead (`slow="close"`).
    """

    sent: int = 0
    waiting: int = 0
    replaced: int = 0
    dropped: int = 0
    closed: int = 0
