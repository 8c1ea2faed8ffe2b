"""The stream of `wrap_io`: its transport is a pair of coroutine functions that exchange frames.

What is to be done in tasks is in `raw_pair`. Half-closing this stream ends it, once the raw writer
has been told.
"""

from .fed_stream cimport FedStream
from .stream cimport Consumer


cdef class PairStream(FedStream):
    """Bytes that a RawPair makes of frames, and frames that it makes of bytes.

    Args:
        runtime: of the event loop on which the raw pair is called.
        raw_pair: what reads and writes the frames.
    """

    def __init__(self, runtime, raw_pair):
        FedStream.__init__(self, runtime, None, raw_pair)
        self.ends_slowly = True

    cdef int begin(self) except -1:
        self.transport.begin()
        return 0

    def refuse(self, error):
        """What was read next breaks the protocol; error: a ProtocolError."""
        cdef Consumer consumer = self.consumer
        if not self.lost:
            try:
                consumer.refused(error)
            except MemoryError:
                consumer.fail_memory()

    def feed_eof(self):
        cdef Consumer consumer = self.consumer
        if self.lost:
            return
        if self.blocked:  # the raw writer may take for ever for what it was given
            self.abort()
        else:
            consumer.ending()

    def fail_writing(self, error):
        """The raw writer has failed. What comes is still read, until `close_timeout` is over."""
        cdef Consumer consumer = self.consumer
        self.broken = True
        if not self.lost:
            consumer.cannot_send(error)
            consumer.transmitted()
            consumer.ending()

    cdef int half_close(self) except -1:
        self.transport.close()
        return 0

    # What the raw pair needs of the runtime

    def call_outside_tasks(self, callback):
        """Call back where tasks may be resumed."""
        self.runtime.call_outside_tasks(callback)

    def call_later(self, double seconds, callback):
        """Have the loop call back after so many seconds; returns what `cancel()` ends."""
        return self.runtime.call_at(self.runtime.time() + seconds, callback)
