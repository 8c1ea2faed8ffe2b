"""What everybody's transport has, and nothing else, for a FedStream."""

from __future__ import annotations

from tests.helpers.raw_peer import parse


class BareTransport:
    def __init__(self):
        self.written = bytearray()
        self.closed = False
        self.reading = True
        self.failure = None

    def write(self, data):
        if self.failure is not None:
            raise self.failure
        self.written += data

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def get_extra_info(self, name, default=None):
        return default

    def frames(self):
        """The frames that were written and not looked at yet."""
        found = []
        while (parsed := parse(self.written)) is not None:
            found.append((parsed[0].opcode, bytes(parsed[0].payload)))
            del self.written[: parsed[1]]
        assert not self.written
        return found
