"""The heads of most opening handshakes, read natively: the usual request, and the usual 101.

The rule: h11 judges what is HTTP. A head is read here only if it is plainly what h11 takes, and
then with the same result; of all others nothing is said, and h11 decides. So a doubt costs time,
and never strictness.

Not usual are: any method but GET, any target that is not a path, any version but HTTP/1.1; a line
that ends without CR, is folded, or has control characters; no Host, or several; and headers that
h11 itself acts upon: the length of a body, and `Expect`.

RFC 9112 sections 3 to 5.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeLatin1
from libc.stdint cimport uint8_t
from libc.string cimport memcmp

cdef extern from "Python.h":
    int PyOS_strnicmp(const char *one, const char *other, Py_ssize_t size)

cdef enum:  # what a character can be a part of
    NAME = 1  # of a header: a token (RFC 9110 section 5.6.2)
    VALUE = 2  # of a header, and a reason phrase (RFC 9110 section 5.5)
    TARGET = 4  # a path with its query (RFC 9112 section 3.2.1): visible ASCII but "#"

# No character is a part of anything that can end a line: CR, LF, or the NUL behind all bytes.
cdef uint8_t[256] parts


cdef int fill_parts() except -1:
    cdef int each
    for each in range(256):
        if each == 0x09 or 0x20 <= each <= 0x7E or each >= 0x80:
            parts[each] |= VALUE
        if 0x21 <= each <= 0x7E and each != ord("#"):
            parts[each] |= TARGET
        if chr(each).isascii() and chr(each).isalnum() or chr(each) in "!#$%&'*+-.^_`|~":
            parts[each] |= NAME
    return 0

fill_parts()


# Texts in the headers of opening handshakes that are the same for all clients.
cdef dict USUAL = {
    text: text
    for text in (
        "Host",
        "Upgrade",
        "upgrade",
        "websocket",
        "Connection",
        "keep-alive, Upgrade",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "13",
        "Sec-WebSocket-Extensions",
        "permessage-deflate; client_max_window_bits",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Accept",
        "Origin",
        "User-Agent",
        "Pragma",
        "Cache-Control",
        "no-cache",
        "Accept-Encoding",
        "gzip, deflate, br",
        "gzip, deflate, br, zstd",
        "Accept-Language",
        "Cookie",
        "Authorization",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "Forwarded",
    )
}


def usual_request(bytes head not None):
    """The target and the headers of a usual request, or None.

    head: all of it, with its empty line.
    """
    cdef const char *at = begins(head, b"GET ")
    if at == NULL or at[0] != b"/":
        return None
    cdef const char *target = at
    at = behind(at, TARGET)
    cdef const char *target_end = at
    if not follows(at, head, b" HTTP/1.1\r\n"):
        return None
    cdef int hosts = 0
    pairs = read_headers(at + 11, head, &hosts)
    if pairs is None or hosts != 1:
        return None
    return PyUnicode_DecodeLatin1(target, target_end - target, NULL), pairs


def usual_answer(bytes head not None):
    """The reason phrase and the headers of a usual 101, or None.

    head: all of it, with its empty line.
    """
    cdef const char *at = begins(head, b"HTTP/1.1 101 ")
    if at == NULL:
        return None
    cdef const char *reason = at
    at = behind(at, VALUE)
    cdef const char *reason_end = at
    if not follows(at, head, b"\r\n"):
        return None
    cdef int hosts = 0
    pairs = read_headers(at + 2, head, &hosts)
    if pairs is None:
        return None
    return PyUnicode_DecodeLatin1(reason, reason_end - reason, NULL), pairs


cdef tuple read_headers(const char *at, bytes head, int *hosts):
    """The header lines from there on, as pairs; None if they are not usual."""
    cdef list pairs = []
    cdef const char *name
    cdef const char *name_end
    cdef const char *value
    cdef const char *value_end
    while at[0] != b"\r":
        name = at
        at = behind(at, NAME)
        name_end = at
        if name_end == name or at[0] != b":" or acted_upon(name, name_end - name):
            return None
        value = at + 1
        while is_whitespace(value[0]):
            value += 1
        at = value_end = behind(value, VALUE)
        while value_end > value and is_whitespace(value_end[-1]):
            value_end -= 1
        if not follows(at, head, b"\r\n"):
            return None
        at += 2
        hosts[0] += is_called(name, name_end - name, b"host")
        pairs.append((
            shared(PyUnicode_DecodeLatin1(name, name_end - name, NULL)),
            shared(PyUnicode_DecodeLatin1(value, value_end - value, NULL)),
        ))
    # There is nothing behind the empty line.
    if not follows(at, head, b"\r\n") or at + 2 != end_of(head):
        return None
    return tuple(pairs)


cdef object shared(str text):
    """The text, as the one object where every handshake has it: a connection keeps its head."""
    return USUAL.get(text, text)


cdef bint acted_upon(const char *name, Py_ssize_t size) noexcept:
    """Whether a header of that name changes what h11 does."""
    return (
        is_called(name, size, b"content-length")
        or is_called(name, size, b"transfer-encoding")
        or is_called(name, size, b"expect")
    )


cdef inline bint is_called(const char *name, Py_ssize_t size, bytes wanted) noexcept:
    return (
        size == PyBytes_GET_SIZE(wanted)
        and PyOS_strnicmp(name, PyBytes_AS_STRING(wanted), size) == 0
    )


cdef inline bint is_whitespace(char character) noexcept:
    return character == b" " or character == b"\t"


cdef inline const char *end_of(bytes head) noexcept:
    """Behind its last byte, where a NUL stands."""
    return PyBytes_AS_STRING(head) + PyBytes_GET_SIZE(head)


cdef inline const char *behind(const char *at, uint8_t part) noexcept:
    """The first character from there on that is no such part; the NUL at the end is none."""
    while parts[<uint8_t>at[0]] & part:
        at += 1
    return at


cdef inline bint follows(const char *at, bytes head, bytes text) noexcept:
    """Whether the head goes on with the text there."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(text)
    return end_of(head) - at >= size and memcmp(at, PyBytes_AS_STRING(text), size) == 0


cdef inline const char *begins(bytes head, bytes text) noexcept:
    """Behind the text that the head begins with; NULL if it does not."""
    if not follows(PyBytes_AS_STRING(head), head, text):
        return NULL
    return PyBytes_AS_STRING(head) + PyBytes_GET_SIZE(text)
