from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any, TypeAlias, final

Payload: TypeAlias = str | bytes | bytearray | memoryview
Writable: TypeAlias = (
    Payload | Message | Mapping[str, Any] | Iterable[Payload] | AsyncIterable[Payload] | None
)

@final
class Message:
    """A WebSocket message, or one frame of it: the specification's Message.

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

    def __init__(
        self,
        payload: Payload = b"",
        opcode: int = 2,
        *,
        fin: bool = True,
        rsv1: bool = False,
        rsv2: bool = False,
        rsv3: bool = False,
        mask: bool = False,
    ) -> None: ...
    @property
    def fin(self) -> bool:
        """Whether this is the last fragment of its message (RFC 6455 section 5.2)."""
    @property
    def rsv1(self) -> bool:
        """The first reserved bit; an extension gives it a meaning (section 5.2)."""
    @property
    def rsv2(self) -> bool:
        """The second reserved bit."""
    @property
    def rsv3(self) -> bool:
        """The third reserved bit."""
    @property
    def opcode(self) -> int:
        """What the payload is: 0, 1, 2, 8, 9 or 10 (sections 5.2 and 11.8)."""
    @property
    def mask(self) -> bool:
        """Whether the frame came, or is to be encoded, masked (section 5.1)."""
    @property
    def len(self) -> int:
        """The size of the payload in bytes, for text that of its UTF-8."""
    @property
    def payload(self) -> Any:
        """The contents: str for text, bytes for binary and for control frames."""

def as_message(value: Payload | Message | Mapping[str, Any]) -> Message:
    """The message that a value stands for: text for str, binary for bytes-like."""

def as_fragment(value: Payload, opcode: int, begun: bool, fin: bool) -> Message:
    """One item of an iterable as a fragment of a message of this opcode (0: not known yet)."""

def is_fragments(value: object) -> bool:
    """Whether what is to be written is an (async) iterable of a message's fragments."""
