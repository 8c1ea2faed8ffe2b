"""What an extension is (RFC 6455 section 9): negotiated by a factory, then one for each connection.

What it is for, and an example, `coro_websocket.extensions` says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeAlias

__all__ = ["Extension", "ExtensionFactory", "Parameters"]

Parameters: TypeAlias = tuple[tuple[str, str | None], ...]
"""An extension's parameters in the order sent; None for one without a value."""


class Extension(ABC):
    """An extension in use on one connection: it transforms the payloads of messages.

    Attributes:
        rsv: the reserved bit that marks the messages it has transformed: 4 for rsv1, 2 for
            rsv2, 1 for rsv3 (RFC 6455 section 5.2).
    """

    rsv: int

    @abstractmethod
    def encode(self, payload: bytes, *, opcode: int, begins: bool, ends: bool) -> bytes | None:
        """Transform the payload of a frame that is to be sent.

        Called for one frame after the other, for those of 64 KiB or more in another thread.

        Args:
            payload: the payload, text as UTF-8.
            opcode: 1 or 2: what the message is.
            begins: whether the frame is the first of its message.
            ends: whether it is the last.

        Returns:
            The new payload. None, at the beginning of a message only: this message is sent
            as it is.
        """

    @abstractmethod
    def decode(self, payload: bytes, *, ends: bool, limit: int) -> bytes:
        """Undo `encode`, for a frame of a message that came with the extension's bit set.

        Args:
            payload: the payload that came.
            ends: whether the frame is the last of its message.
            limit: the most bytes that may be returned; if there are more, raise LimitError
                without making them.

        Raises:
            ProtocolError: the payload is not what the extension makes.
        """


class ExtensionFactory(ABC):
    """What is offered or accepted in opening handshakes; makes the Extension of a connection."""

    name: str

    def offers(self) -> list[Parameters]:
        """As a client: the parameters of each offer, the preferred one first."""
        return [()]

    @abstractmethod
    def accept(self, parameters: Parameters) -> Extension:
        """As a client: the server has accepted an offer with these parameters.

        Raises ValueError, which says why, if they answer no offer.
        """

    @abstractmethod
    def agree(self, parameters: Parameters) -> tuple[Parameters, Extension] | None:
        """As a server: the parameters to answer an offer with, or None to decline it.

        An offer with a parameter that is unknown, or has an invalid value, must be declined.
        """
