import asyncio
from collections.abc import Coroutine
from typing import Any, Self

from .._messages import Message, Payload, Writable
from ._connection import Connection

class Read:
    """`read`: gives the messages of a connection, to one task at a time.

        msg = await read()        # a Message, or None once closed cleanly
        async for msg in read:    # until closed cleanly
            print(msg.payload)

    A cancelled read loses no message. The connection ends cleanly when we close it, or
    when the peer closes it with 1000, 1001 or no code; however else it ends, every read
    from then on raises. What came before the end is given first.
    """

    def __init__(self, connection: Connection, *, fragments: bool, control: bool) -> None: ...
    def __call__(
        self, *, fragments: bool | None = None, control: bool | None = None
    ) -> Coroutine[Any, Any, Message | None]:
        """Wait for the next message (the specification's `read`).

        Args:
            fragments: give the next frame by itself, with its own `fin` and opcode, rather
                than whole messages. Default: the option `fragments`.
            control: give Ping, Pong and Close frames too, as the original does; they have
                been answered already. Default: the option `control`.

        Returns:
            The Message, or None once the connection has closed cleanly. `payload` is str
            for text, bytes for all else. A character that a text fragment ends in the
            middle of is given with the next fragment.

        Raises:
            ConnectionClosedError: the connection ended, with `code` and `reason`: the peer
                closed it with an error code, or it was lost (1006, RFC 6455 section 7.1.5).
            ProtocolError: the peer broke the protocol; it has been told (section 7.1.7).
            LimitError: a message was larger than `max_message_size` (1009).
            PingTimeout: the peer has gone silent (`ping_interval`, `ping_timeout`).
            ConcurrencyError: another task is reading.
        """
    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Coroutine[Any, Any, Message]: ...
    def fragments(self, *, control: bool | None = None) -> Read:
        """A reader of the same connection that gives each frame as it arrives.

        Use it as `read` itself: `async for frame in read.fragments()`. The first frame of
        a message has its opcode, the others 0; the last has `fin` (RFC 6455 section 5.4).
        `max_message_size` then bounds each frame.
        """
    @property
    def close_code(self) -> int | None:
        """The close code (RFC 6455 section 7.1.5); None while the connection is open.

        The code of the peer's Close frame, 1005 if it had none; 1006 if there was no
        Close frame; the code we failed the connection with if the peer broke the protocol.
        """
    @property
    def close_reason(self) -> str:
        """The reason in the Close frame (RFC 6455 section 7.1.6), "" if there is none."""

class Write:
    """`write`: sends messages; any number of tasks may write at once.

        await write("text")                 # a text message
        await write(b"bytes")               # a binary message
        await write({"payload": "data"})    # opcode 2 unless it says another
        await write(["a ", "message"])      # one message in two fragments
        await write(None)                   # closes

    A message is encoded when `write` is called, whole or not at all; awaiting it waits
    until there is room for more. Frames of different messages never interleave.
    """

    def __init__(self, connection: Connection) -> None: ...
    def __call__(
        self, message: Writable = None, *, compress: bool = True
    ) -> Coroutine[Any, Any, None]:
        """Send a message (the specification's `write`).

        Args:
            message: str (sent as text), bytes, bytearray or memoryview (as binary), a
                Message or a mapping with its fields (a frame as the fields say; opcode 2
                by default), an iterable or async iterable of str or of bytes-like
                fragments (one fragmented message), or None (closes, as `close()` does).
            compress: False sends this message as it is, without compressing it or letting
                another extension transform it. What is 1 MiB or more is compressed in
                another thread, so that the event loop goes on.

        Returns:
            An awaitable. It is done at once while less than `write_high_water` bytes wait
            for the peer to take them, and otherwise when that has sunk to a quarter.

        Raises:
            ConnectionClosedError: the connection is closed or closing; nothing was sent.
            InvalidMessageType, InvalidMessage: what was given is no message that may be
                sent (RFC 6455 sections 5.2 to 5.6); nothing was sent.
            ConcurrencyError: this task began a fragmented message (`fin=False`) and starts
                another before its last fragment. Other tasks wait for their turn.
        """
    def ping(self, payload: Payload | None = None) -> asyncio.Future[float]:
        """Send a Ping (RFC 6455 section 5.5.2).

        Args:
            payload: at most 125 bytes; by default 8 random ones.

        Returns:
            A future of the round-trip time in seconds. It need not be awaited. It raises
            ConnectionClosedError if the connection ends before the Pong comes.
        """
    def pong(self, payload: Payload = b"") -> Coroutine[Any, Any, None]:
        """Send a Pong that no Ping asked for (RFC 6455 section 5.5.3): a heartbeat.

        payload: at most 125 bytes. Pings are answered without this.
        """
    def close(self, code: int | None = 1000, reason: str = "") -> Coroutine[Any, Any, None]:
        """Close the connection with a closing handshake (RFC 6455 section 7.1.2).

        The Close frame is sent at once; awaiting waits until the connection is closed, at
        most about `close_timeout` seconds. Messages that are still on their way can be
        read. Closing a closed connection does nothing.

        Args:
            code: 1000 to 1003, 1007 to 1014 or 3000 to 4999; None for a Close without a
                code (section 7.4).
            reason: at most 123 bytes of UTF-8.

        Raises:
            InvalidMessage: the code or the reason may not be sent.
        """
    async def wait_closed(self) -> None:
        """Wait until the connection is closed, whoever closes it."""
