from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any, TypeAlias, final

Payload: TypeAlias = str | bytes | bytearray | memoryview
Writable: TypeAlias = (
    Payload | Message | Mapping[str, Any] | Iterable[Payload] | AsyncIterable[Payload] | None
)

@final
class Message:
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
    def fin(self) -> bool: ...
    @property
    def rsv1(self) -> bool: ...
    @property
    def rsv2(self) -> bool: ...
    @property
    def rsv3(self) -> bool: ...
    @property
    def opcode(self) -> int: ...
    @property
    def mask(self) -> bool: ...
    @property
    def len(self) -> int: ...
    @property
    def payload(self) -> Any: ...

def as_message(value: Payload | Message | Mapping[str, Any]) -> Message: ...
def as_whole_message(value: Payload | Message | Mapping[str, Any]) -> Message: ...
def as_fragment(value: Payload, opcode: int, begun: bool, fin: bool) -> Message: ...
def is_fragments(value: object) -> bool: ...
