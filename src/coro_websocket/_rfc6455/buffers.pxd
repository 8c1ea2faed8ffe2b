from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t

cdef enum:
    HELD_KEPT = 4096  # the most unread bytes that `fit` moves, and the most room it leaves behind


cdef class Inbox:
    cdef uint8_t *cur
    cdef uint8_t *end
    cdef uint8_t *ahead  # how far the engine has looked already; at most cur: it has not
    cdef uint8_t *held
    cdef size_t capacity
    cdef bint borrowed

    cdef size_t unread(self) noexcept
    cdef int borrow(self, uint8_t *received, size_t n) noexcept
    cdef int release(self) except -1
    cdef int make_room(self, size_t n) except -1
    cdef int fit(self) noexcept
    cdef size_t room(self) noexcept
    cdef int drop(self) noexcept
    cdef int grow(self, size_t capacity) except -1
    cdef int place(self, uint8_t *at, size_t looked, size_t size) noexcept


cdef class Body:
    cdef PyObject *held
    cdef size_t size
    cdef size_t capacity
    cdef size_t checked  # bytes that are known to be UTF-8

    cdef uint8_t *data(self) noexcept
    cdef int make_room(self, size_t need, uint64_t want) except -1
    cdef object take(self)
    cdef int drop(self) noexcept


cdef class Outbox:
    cdef uint8_t *held
    cdef uint8_t *lent  # the memory that a stream sends from just now
    cdef size_t start
    cdef size_t end
    cdef size_t capacity

    cdef size_t unsent(self) noexcept
    cdef const uint8_t *data(self) noexcept
    cdef uint8_t *make_room(self, size_t n) except NULL
    cdef uint8_t *make_room_elsewhere(self, size_t n) except NULL
    cdef int append(self, const uint8_t *data, size_t n) except -1
    cdef int lend(self) noexcept
    cdef int take_back(self) noexcept
    cdef int sent(self, size_t n) noexcept
    cdef int drop(self) noexcept
