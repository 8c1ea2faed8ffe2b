"""The engine's memory: bytes that are not parsed yet, a message's body, bytes to send.

The rules: memory follows the bytes that are here, never those that a peer announces,
and is given back when it is empty. All sizes are of bytes that exist, or bounded by
max_message_size, so that no sum can wrap.
"""

from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, memmove

cdef extern from "large_block.h" nogil:
    bint large_blocks_kept
    void large_block_show(size_t size)

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    int _PyBytes_Resize(PyObject **bytes, Py_ssize_t size) except -1
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *v, Py_ssize_t n) except NULL
    char *bytes_data "PyBytes_AS_STRING"(PyObject *bytes) noexcept
    void Py_XDECREF(PyObject *) noexcept

cdef enum:
    BODY_AHEAD = 8
    BODY_LEAST = 64
    OUT_STEP = 1024
    OUT_KEPT = 4096  # a larger send buffer is given back once it is empty
    LARGE = 65536  # bytes of a block that malloc may give back to the system at once
    LARGEST = 16777216  # bytes of a block that it had better keep for those that follow


cdef int keep_large_blocks() noexcept:
    """Have malloc keep the blocks of large messages for those that follow.

    glibc gives free memory back to the system from twice the size of the largest block it has
    seen freed (mallopt(3), M_MMAP_THRESHOLD); with messages of a megabyte that is with each of
    them, and to have their pages cleared again costs more than all the rest. So it is shown
    one larger block, which is not touched.
    """
    global large_blocks_kept
    large_blocks_kept = True
    large_block_show(LARGEST)
    return 0


cdef inline size_t looked_at(Inbox inbox) noexcept:
    """How many of the unread bytes the engine has looked at already."""
    return inbox.ahead - inbox.cur if inbox.ahead > inbox.cur else 0


cdef class Inbox:
    """The bytes from `cur` to `end`, in memory of our own or in a stream's buffer."""

    def __dealloc__(self):
        PyMem_RawFree(self.held)

    cdef size_t unread(self) noexcept:
        return self.end - self.cur

    cdef int borrow(self, uint8_t *received, size_t n) noexcept:
        """Take n bytes in a stream's buffer, which stay there until `release`.

        What was unread is copied to the free bytes before them.
        """
        cdef size_t left = self.unread()
        cdef size_t looked = looked_at(self)
        if left:
            memcpy(received - left, self.cur, left)
        self.place(received - left, looked, left + n)
        self.borrowed = True
        return 0

    cdef int release(self) except -1:
        """Give the stream's buffer back: what is unread moves to our own memory.

        Raises MemoryError, what was unread being gone.
        """
        cdef size_t left = self.unread()
        cdef size_t looked = looked_at(self)
        if left == 0:
            self.drop()
        elif self.borrowed:
            self.grow(left)
            memcpy(self.held, self.cur, left)
            self.place(self.held, looked, left)
        self.borrowed = False
        return 0

    cdef int make_room(self, size_t n) except -1:
        """Have room for n more bytes behind the unread ones, in our own memory."""
        cdef size_t left
        cdef size_t looked
        self.release()
        left = self.unread()
        looked = looked_at(self)
        if left and self.cur != self.held:
            memmove(self.held, self.cur, left)
            self.place(self.held, looked, left)
        if n > <size_t>PY_SSIZE_T_MAX - left:
            self.drop()
            raise MemoryError
        self.grow(left + n)
        self.place(self.held, looked, left)
        return 0

    cdef int fit(self) noexcept:
        """Give back the room behind a little that is unread, in our own memory."""
        cdef size_t left = self.unread()
        cdef size_t looked = looked_at(self)
        cdef uint8_t *smaller
        if self.borrowed or left == 0 or left > HELD_KEPT or self.capacity <= left + HELD_KEPT:
            return 0
        memmove(self.held, self.cur, left)
        smaller = <uint8_t *>PyMem_RawRealloc(self.held, left)
        if smaller != NULL:
            self.held = smaller
            self.capacity = left
        self.place(self.held, looked, left)
        return 0

    cdef size_t room(self) noexcept:
        """How many bytes fit behind the unread ones, after `make_room`."""
        return self.capacity - (self.end - self.held)

    cdef int drop(self) noexcept:
        PyMem_RawFree(self.held)
        self.held = NULL
        self.capacity = 0
        self.cur = self.end = self.ahead = NULL
        self.borrowed = False
        return 0

    cdef int grow(self, size_t capacity) except -1:
        """Have this much memory of our own; what it holds stays, perhaps elsewhere.

        Raises MemoryError, all that was unread being gone: a stream's buffer, which others
        use too, is never kept.
        """
        cdef uint8_t *larger
        if self.capacity < capacity:
            larger = <uint8_t *>PyMem_RawRealloc(self.held, capacity)
            if larger == NULL:
                self.drop()
                raise MemoryError
            self.held = larger
            self.capacity = capacity
        return 0

    cdef int place(self, uint8_t *at, size_t looked, size_t size) noexcept:
        self.cur = at
        self.ahead = at + looked
        self.end = at + size
        return 0


cdef class Body:
    """The payload of a message while it arrives: a bytes object that grows."""

    def __dealloc__(self):
        Py_XDECREF(self.held)

    cdef uint8_t *data(self) noexcept:
        return <uint8_t *>bytes_data(self.held) if self.held != NULL else NULL

    cdef int make_room(self, size_t need, uint64_t want) except -1:
        """Have room for `need` more bytes, and rather for `want`.

        What a header announces is not allocated before it comes: a body is made at most
        BODY_AHEAD times as large as it has to be. To move it often costs more than to receive it.
        Raises MemoryError, the body then being gone.
        """
        cdef uint64_t capacity
        if need <= self.capacity - self.size:
            return 0
        capacity = min(self.size + want, BODY_AHEAD * (<uint64_t>self.size + need))
        if self.size:
            # Fragments: grow by half, so that many small ones cost linear time.
            capacity = max(capacity, self.capacity + <uint64_t>(self.capacity // 2))
        capacity = max(capacity, <uint64_t>(self.size + need), <uint64_t>BODY_LEAST)
        if capacity >= LARGE and not large_blocks_kept:
            keep_large_blocks()
        if self.held == NULL:
            self.held = new_bytes(NULL, <Py_ssize_t>capacity)
        else:
            try:
                _PyBytes_Resize(&self.held, <Py_ssize_t>capacity)
            except MemoryError:
                self.size = self.capacity = self.checked = 0
                raise
        self.capacity = <size_t>capacity
        return 0

    cdef object take(self):
        """The bytes that are here; the next body begins empty."""
        cdef PyObject *held = self.held
        cdef size_t size = self.size
        self.held = NULL
        self.size = self.capacity = self.checked = 0
        if size == 0:
            Py_XDECREF(held)
            return b""
        _PyBytes_Resize(&held, size)
        taken = <object>held
        Py_DECREF(taken)  # the one reference is now `taken`'s
        return taken

    cdef int drop(self) noexcept:
        Py_XDECREF(self.held)
        self.held = NULL
        self.size = self.capacity = self.checked = 0
        return 0


cdef class Outbox:
    """Encoded frames that have not been sent."""

    def __dealloc__(self):
        PyMem_RawFree(self.held)

    cdef size_t unsent(self) noexcept:
        return self.end - self.start

    cdef const uint8_t *data(self) noexcept:
        return self.held + self.start

    cdef uint8_t *make_room(self, size_t n) except NULL:
        """Where the next n bytes are to be put; `end` is for the caller to move."""
        cdef size_t wanted
        cdef uint8_t *larger
        if n <= self.capacity - self.end:
            return self.held + self.end
        if self.held == self.lent and self.held != NULL:
            return self.make_room_elsewhere(n)
        if self.start:
            memmove(self.held, self.held + self.start, self.unsent())
            self.end -= self.start
            self.start = 0
        if n > <size_t>PY_SSIZE_T_MAX - OUT_STEP - self.end:
            raise MemoryError
        if n > self.capacity - self.end:
            # What waits alone gets no more than it needs: an idle connection keeps that.
            wanted = max(self.end + n + OUT_STEP, self.end * 2) if self.end else n
            if wanted >= LARGE and not large_blocks_kept:
                keep_large_blocks()
            larger = <uint8_t *>PyMem_RawRealloc(self.held, wanted)
            if larger == NULL:
                raise MemoryError
            self.held = larger
            self.capacity = wanted
        return self.held + self.end

    cdef uint8_t *make_room_elsewhere(self, size_t n) except NULL:
        """`make_room` in new memory: what is lent stays as it is."""
        cdef size_t unsent = self.unsent()
        cdef uint8_t *held
        if n > <size_t>PY_SSIZE_T_MAX - OUT_STEP - unsent:
            raise MemoryError
        held = <uint8_t *>PyMem_RawRealloc(NULL, unsent + n + OUT_STEP)
        if held == NULL:
            raise MemoryError
        memcpy(held, self.data(), unsent)
        self.held = held
        self.start = 0
        self.end = unsent
        self.capacity = unsent + n + OUT_STEP
        return held + unsent

    cdef int append(self, const uint8_t *data, size_t n) except -1:
        if n:
            memcpy(self.make_room(n), data, n)
            self.end += n
        return 0

    cdef int lend(self) noexcept:
        """Keep the memory that `data` is in until `take_back`, whatever becomes of the rest."""
        self.lent = self.held
        return 0

    cdef int take_back(self) noexcept:
        if self.lent != self.held:
            PyMem_RawFree(self.lent)
        self.lent = NULL
        return 0

    cdef int sent(self, size_t n) noexcept:
        if n < self.unsent():
            self.start += n
        else:
            self.start = self.end = 0
            if self.capacity > OUT_KEPT or self.lent != NULL:
                self.drop()
        return 0

    cdef int drop(self) noexcept:
        if self.held != self.lent:
            PyMem_RawFree(self.held)
        self.held = NULL
        self.start = self.end = self.capacity = 0
        return 0
