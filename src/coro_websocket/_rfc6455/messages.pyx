"""Message: what is read and what may be written, a whole message or one frame of it.

A value: it never changes, and it checks only the types of its fields. Whether it
may be sent is for the engine to say.
"""

cimport cython
from cpython.bytes cimport PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_CheckExact

from .opcodes cimport BINARY, CONTINUATION, FIN, TEXT, opcode_of

from collections.abc import AsyncIterable, Awaitable, Coroutine, Iterable, Mapping

from .._advice import message_hint
from .._errors import InvalidMessage, InvalidMessageType

cdef extern from "Python.h":
    object PyUnicode_FromObject(object)
    const char *PyUnicode_AsUTF8AndSize(object, Py_ssize_t *) except NULL

SHOWN = 32  # characters or bytes of the payload that repr() shows
FIELDS = ("fin", "rsv1", "rsv2", "rsv3", "opcode", "mask", "len", "payload")


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class Message:
    """A WebSocket message, or one frame of it: "Message" of luvit's coro-websocket page.

    What `read()` gives, and one of the things that `write` takes. It never changes, and
    can be compared and hashed.

    Args:
        payload: str, bytes, bytearray or memoryview (copied to bytes). Default: empty.
        opcode: 0 continuation, 1 text, 2 binary, 8 close, 9 ping, 10 pong. Default: 2, as
            in the original (a str payload is then sent as the bytes of its UTF-8).
        fin: whether this is the last fragment of its message. Default: True.
        rsv1, rsv2, rsv3: the reserved bits, which only an extension may set.
        mask: whether the frame is masked. On a connection the role decides when sending;
            `codec.encode` goes by this field.

    Raises:
        InvalidMessageType: the payload or the opcode is of a wrong type.
        InvalidMessage: the opcode is not 0 to 15, or a str has no UTF-8.
    """

    __match_args__ = ("payload", "opcode")

    def __cinit__(self):
        self.payload = b""

    def __init__(
        self,
        payload=b"",
        opcode=2,
        *,
        fin=True,
        rsv1=False,
        rsv2=False,
        rsv3=False,
        mask=False,
    ):
        cdef uint8_t bits = fill_bits(opcode, fin, rsv1, rsv2, rsv3)
        cdef bint masked = bool(mask)
        payload = plain_payload(payload)
        cdef int64_t length = payload_length(payload)
        if self.made:
            raise TypeError("a Message never changes: make another one")
        self.made = True
        self.bits = bits
        self.mask = masked
        self.payload = payload
        self.len = length

    @property
    def fin(self):
        """Whether this is the last fragment of its message (RFC 6455 section 5.2)."""
        return self.bits & FIN != 0

    @property
    def rsv1(self):
        """The first reserved bit; an extension gives it a meaning (section 5.2)."""
        return self.bits & 0x40 != 0

    @property
    def rsv2(self):
        """The second reserved bit."""
        return self.bits & 0x20 != 0

    @property
    def rsv3(self):
        """The third reserved bit."""
        return self.bits & 0x10 != 0

    @property
    def opcode(self):
        """What the payload is: 0, 1, 2, 8, 9 or 10 (sections 5.2 and 11.8)."""
        return opcode_of(self.bits)

    def __eq__(self, other):
        if not isinstance(other, Message):
            return NotImplemented
        cdef Message that = other
        return (
            self.bits == that.bits
            and self.mask == that.mask
            and self.payload == that.payload
        )

    def __hash__(self):
        return hash((self.bits, self.mask, self.payload))

    def __reduce__(self):
        return _rebuild, (self.payload, self.bits, self.mask)

    def __repr__(self):
        shown = repr(self.payload[:SHOWN])
        if len(self.payload) > SHOWN:
            shown += "..."
        rsv = "".join(f", rsv{i}=True" for i in (1, 2, 3) if self.bits & (0x80 >> i))
        mask = ", mask=True" if self.mask else ""
        return f"Message({shown}, opcode={self.opcode}, fin={self.fin}{rsv}{mask}, len={self.len})"


def _rebuild(payload, bits, mask):
    payload = plain_payload(payload)
    return new_message(bits, mask, payload, payload_length(payload))


cdef Message new_message(uint8_t bits, bint mask, object payload, int64_t len):
    cdef Message message = Message.__new__(Message)
    message.bits = bits
    message.mask = mask
    message.payload = payload
    message.len = len
    message.made = True
    return message


def is_fragments(value):
    """Whether what is to be written is an (async) iterable of a message's fragments."""
    if not isinstance(value, AsyncIterable) and isinstance(value, Awaitable):
        return False
    return isinstance(value, (AsyncIterable, Iterable)) and not isinstance(
        value, (str, bytes, bytearray, memoryview, Message, Mapping, Coroutine)
    )


def empty_end(fragments, opcode):
    """The empty fragment that ends a message of this opcode once its fragments have been sent.

    opcode: 0 where the iterable has given none, which is an error. But what `read.stream()` gives
    has no chunk where the message is empty, and can be passed on.
    """
    opcode = opcode or getattr(fragments, "opcode", 0)
    if opcode in (1, 2):
        return "" if opcode == 1 else b""
    raise InvalidMessage(
        "a message in fragments has one at least, and none came; to send an empty message, "
        "write('') or write(b'')"
    )


cpdef Message as_message(object value):
    """The message that a value stands for: text for str, binary for bytes-like."""
    cdef uint8_t opcode = TEXT if isinstance(value, str) else BINARY
    if isinstance(value, Message):
        return value
    if isinstance(value, (str, bytes, bytearray, memoryview)):
        payload = plain_payload(value)
        return new_message(FIN | opcode, False, payload, payload_length(payload))
    if isinstance(value, Mapping):
        return message_from_mapping(value)
    raise InvalidMessageType(
        "a message is str, bytes, bytearray, memoryview, a Message or a mapping with its "
        f"fields, not {type(value).__name__}{message_hint(value)}"
    )


cpdef Message as_whole_message(object value):
    """The text or binary message that a value stands for, if it is not a fragment of one."""
    cdef Message message = as_message(value)
    if not message.bits & FIN or opcode_of(message.bits) not in (TEXT, BINARY):
        raise InvalidMessage("expected a whole text or binary message (RFC 6455 section 5.6)")
    return message


cpdef Message as_fragment(object value, int opcode, bint begun, bint fin):
    """One item of an iterable as a fragment of a message of this opcode (0: not known yet)."""
    cdef Message fragment
    if not isinstance(value, (str, bytes, bytearray, memoryview)):
        raise InvalidMessageType(
            f"a fragment is str, bytes, bytearray or memoryview, not {type(value).__name__}"
            f"{message_hint(value)}"
        )
    fragment = as_message(value)
    if opcode and opcode_of(fragment.bits) != opcode:
        raise InvalidMessage(
            "the fragments of one message are all str or all bytes-like "
            "(RFC 6455 section 5.4); both came"
        )
    return new_message(
        (CONTINUATION if begun else opcode_of(fragment.bits)) | (FIN if fin else 0),
        False,
        fragment.payload,
        fragment.len,
    )


cdef Message message_from_mapping(object mapping):
    """The Message that a mapping with the field names of luvit's page stands for."""
    for name in mapping:
        if name not in FIELDS:
            raise InvalidMessageType(
                f"a message has the fields {', '.join(FIELDS)}; it has no {name!r}"
                f"{message_hint(mapping)}"
            )
    if not mapping:
        raise InvalidMessage(
            "an empty mapping is not a message; to send an empty message, write('') or write(b'')"
        )
    payload = plain_payload(mapping.get("payload", b""))
    return new_message(
        fill_bits(
            mapping.get("opcode", 2),
            mapping.get("fin", True),
            mapping.get("rsv1", False),
            mapping.get("rsv2", False),
            mapping.get("rsv3", False),
        ),
        bool(mapping.get("mask", False)),
        payload,
        payload_length(payload),
    )


cdef uint8_t fill_bits(object opcode, object fin, object rsv1, object rsv2, object rsv3) except? 0:
    if isinstance(opcode, bool) or not isinstance(opcode, int):
        raise InvalidMessageType(f"a message's opcode is an int, not {type(opcode).__name__}")
    if not 0 <= opcode <= 15:
        raise InvalidMessage(f"an opcode is 0 to 15 (RFC 6455 section 5.2), not {opcode}")
    return (
        <uint8_t>opcode
        | (FIN if fin else 0)
        | (0x40 if rsv1 else 0)
        | (0x20 if rsv2 else 0)
        | (0x10 if rsv3 else 0)
    )


cdef object plain_payload(object payload):
    """The payload as an exact str or bytes, which can be part of no reference cycle."""
    if PyUnicode_CheckExact(payload) or PyBytes_CheckExact(payload):
        return payload
    if isinstance(payload, str):
        return PyUnicode_FromObject(payload)
    if isinstance(payload, (bytes, bytearray, memoryview)):
        return memoryview(payload).tobytes()
    raise InvalidMessageType(
        f"a payload is str, bytes, bytearray or memoryview, not {type(payload).__name__}"
        f"{message_hint(payload)}"
    )


cdef int64_t payload_length(object payload) except -1:
    """The length in bytes, of a str in UTF-8; a str that has no UTF-8 is refused."""
    cdef Py_ssize_t size
    if PyBytes_CheckExact(payload):
        return PyBytes_GET_SIZE(payload)
    try:
        PyUnicode_AsUTF8AndSize(payload, &size)
    except UnicodeEncodeError as error:
        raise InvalidMessage(no_utf8(error)) from None
    return size


cdef object no_utf8(object error):
    return (
        f"text must be encodable as UTF-8 (RFC 6455 section 5.6): character {error.start} "
        f"is a lone surrogate (U+{ord(error.object[error.start]):04X})"
    )
