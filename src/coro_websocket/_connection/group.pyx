"""One message to many connections: `broadcast`, and groups of connections that leave by themselves.

The rules: it waits for nobody, and whatever happens to one connection, the others are sent it. A
connection is in a group until it is taken out or ends, and no longer.
"""

from .._rfc6455.messages cimport as_whole_message
from .sharing cimport (
    CLOSE_SLOW,
    CLOSES,
    DROP,
    DROPPED,
    GONE,
    LATEST,
    REPLACES,
    SENT,
    WAITS,
    Fate,
    Sharing,
)
from .._runtimes.runtime cimport runs_here
from .read_write cimport in_its_loop

import functools
from collections.abc import Iterable

from .._checks import wrong_type
from .._errors import InvalidOption, InvalidOptionType, OtherEventLoopError
from .._runtimes.current import loop_runs_here
from .stats import BroadcastStats

cdef dict SLOW = {"drop": DROP, "latest": LATEST, "close": CLOSE_SLOW}


cdef class Group(Gathering):
    """Connections that are sent the same: those of a room, or of who subscribes to a topic.

        room = Group()

        async def chat(req, read, write):
            with room.member(write):
                async for msg in read:
                    room.broadcast(msg.payload, exclude=write)

    A connection that ends leaves its groups by itself. A group is for the connections of one
    event loop, and is to be changed where that runs; to look at it and to broadcast is allowed
    everywhere. `len(group)`, `write in group` and iterating give the members, in the order in
    which they were added.

    Args:
        name: str: what `repr` shows. `server.group(name)` gives a server's own of that name.
    """

    def __cinit__(self, *args, **options):
        self.members = {}
        self.counts = Counts()

    def __init__(self, name=None):
        if name is not None and not isinstance(name, str):
            raise wrong_type("name", "str", name)
        self._name = name

    @property
    def name(self):
        """What the group was called when it was made, or None."""
        return self._name

    # Members

    def add(self, write):
        """Take a connection in, unless it is in already, or is closed or closing.

        Args:
            write: the `write` of a connection of this event loop.

        Raises:
            OtherEventLoopError: called where the connection's event loop does not run, or the
                members are of another one.
        """
        self.put(the_write(write))

    cdef bint put(self, Write write) except -1:
        """Take a connection in; False if it was in already, or is closed or closing."""
        cdef Connection connection = write.connection
        if not runs_here(connection.runtime):
            raise connection.runtime.other_loop("group.add()")
        if self.members and connection.runtime is not self.runtime:
            raise OtherEventLoopError(
                "the members of this group are connections of another event loop: each loop needs "
                "a group of its own"
            )
        if connection.stream.broken or connection.engine.close_sent or connection in self.members:
            return False
        if connection.gatherings is None:
            connection.gatherings = set()
        self.runtime = connection.runtime  # which every member has
        connection.gatherings.add(self)
        try:
            self.members[connection] = write
        except BaseException:
            connection.gatherings.discard(self)
            raise
        return True

    def discard(self, write):
        """Take a connection out, if it is in; what waits in here for it is dropped.

        Raises OtherEventLoopError where the group's event loop does not run.
        """
        cdef Connection connection = the_write(write).connection
        if connection in self.members:
            if not runs_here(self.runtime):
                raise self.runtime.other_loop("group.discard()")
            self.forget(connection)

    cdef int forget(self, Connection connection) except -1:
        self.members.pop(connection, None)
        if connection.gatherings is not None:
            connection.gatherings.discard(self)
        return connection.drop_latest(self.counts)

    cdef int left(self, Sharing connection) except -1:
        self.members.pop(connection, None)
        return 0

    def member(self, write):
        """A block in which a connection is in the group, and after which it is not.

            with room.member(write):
                async for msg in read:
                    room.broadcast(msg.payload)

        A connection that was in already stays in. Raises as `add` does.
        """
        return Membership(self, the_write(write))

    def __len__(self):
        return len(self.members)

    def __contains__(self, write):
        return isinstance(write, Write) and (<Write>write).connection in self.members

    def __iter__(self):
        return iter(list(self.members.values()))

    # Sending

    def broadcast(self, message, *, bint compress=True, slow="drop", exclude=()):
        """Send one message to every member: it is encoded, and compressed, once for all.

        Waits for nobody. A member is slow while more than its `write_high_water` bytes wait for
        its peer to take them; a peer that does not read costs no more memory than that.

        Args:
            message: a whole message: str, bytes-like, a Message or a mapping with its fields.
            compress: bool: compress it for those who have agreed on permessage-deflate alone,
                if it is not smaller than the `threshold` of their `Deflate`. That happens here
                and now, once for each size of window that makes a difference: 1 MiB of text
                may keep the event loop for 20 ms.
            slow: str, what becomes of the message for a slow member:
                "drop": it is not sent it.
                "latest": it waits until the peer has taken all but a quarter of that, unless a
                    newer one takes its place: one message of this group waits at most.
                "close": that connection is closed with 1013 and "too slow".
            exclude: the `write`, or several, of members who are not sent it.

        Returns:
            BroadcastStats: how many members were sent it, and what became of it for the others.
            Those who have just been closed, or are being closed, leave the group and are not in
            it. Called where the group's event loop does not run, it does nothing yet and returns
            a coroutine of that, for
            `asyncio.run_coroutine_threadsafe(group.broadcast(message), loop)`.

        Raises:
            InvalidMessageType, InvalidMessage: it is not a whole text or binary message; nothing
                was sent.
            InvalidOption: `slow` is none of these.
            OtherEventLoopError: awaited in an event loop that is not the members'.
        """
        cdef SharedMessage shared = SharedMessage(as_whole_message(message), compress)
        cdef Slow policy = slow_policy(slow)
        cdef set excluded = connections_of(exclude)
        if self.is_here():
            return self.send(shared, policy, excluded)
        coroutine = broadcast_later(self, shared, policy, excluded)
        coroutine.__name__ = coroutine.__qualname__ = "group.broadcast"
        return coroutine

    cdef bint is_here(self) except -1:
        """Whether the members' loop runs here, or any loop if there is none that is theirs."""
        cdef Runtime runtime = self.runtime
        if runtime is None or (not self.members and has_ended(runtime)):
            return loop_runs_here()
        return runs_here(runtime)

    cdef object send(self, SharedMessage shared, Slow slow, set excluded):
        cdef Counts counts = Counts()
        cdef Connection connection
        cdef Fate fate
        for member in list(self.members):  # some may leave meanwhile
            if excluded is not None and member in excluded:
                continue
            connection = <Connection>member
            fate = share(connection, shared, slow, self.counts)
            counts.add(fate)
            self.counts.add(fate)
            if fate == GONE or fate == CLOSES:
                self.forget(connection)
        return BroadcastStats(
            sent=counts.sent,
            waiting=counts.waiting + counts.replaced,
            replaced=counts.replaced,
            dropped=counts.dropped,
            closed=counts.closed,
        )

    @property
    def stats(self):
        """What has become of all messages to this group, as BroadcastStats."""
        cdef Counts counts = self.counts
        return BroadcastStats(
            sent=counts.sent,
            waiting=counts.waiting,
            replaced=counts.replaced,
            dropped=counts.dropped,
            closed=counts.closed,
        )

    def __repr__(self):
        name = "" if self._name is None else f" {self._name!r}"
        return f"<group{name}, members: {len(self.members)}>"


async def broadcast_later(Group group, SharedMessage shared, Slow slow, set excluded):
    if group.members and not group.is_here():
        raise group.runtime.other_loop("group.broadcast()")
    return group.send(shared, slow, excluded)


cdef class Membership:
    """What `group.member(write)` gives."""

    def __cinit__(self, Group group not None, Write write not None):
        self.group = group
        self.write = write

    def __enter__(self):
        self.entered = self.group.put(self.write)
        return self.group

    def __exit__(self, *error):
        if self.entered:
            self.entered = False
            self.group.discard(self.write)


def broadcast(writes, message, *, bint compress=True, slow="drop"):
    """Send one message to many connections: it is encoded, and compressed, once for all.

        missed = broadcast(room, "Hello, all!")
        for write in missed:
            room.discard(write)

    Waits for nobody. A connection is left out if it is closed, or if more than its
    `write_high_water` bytes wait for its peer to take them, so that a peer that does not read
    costs no more memory than that. A `Group` is such a set that connections leave by themselves.

    Args:
        writes: the `write` of each connection, of any servers or clients of this event loop.
        message: a whole message: str, bytes-like, a Message or a mapping with its fields.
        compress: bool: compress it for those who have agreed on permessage-deflate, as
            `Group.broadcast` does.
        slow: str, what becomes of the message for a connection that is slow: "drop", the default,
            "latest" (one message of `broadcast` waits for it at most, the newest) or "close" (it
            is closed with 1013 and "too slow"), as of `Group.broadcast`.

    Returns:
        The `write`s of the connections that were left out; one for which it waits was not. Called
        in another thread, it does nothing yet and returns a coroutine of them, for
        `asyncio.run_coroutine_threadsafe(broadcast(writes, message), loop)`.

    Raises:
        InvalidMessageType, InvalidMessage: it is not a whole text or binary message; nothing
            was sent.
        InvalidOption: `slow` is none of these.
        OtherEventLoopError: the connections are of more than one event loop, or it was awaited
            in one that is not theirs; nothing was sent.
    """
    cdef SharedMessage shared = SharedMessage(as_whole_message(message), compress)
    cdef Slow policy = slow_policy(slow)
    cdef Runtime runtime = None
    cdef Connection connection
    writes = list(writes)
    for write in writes:
        connection = the_write(write).connection
        if runtime is None:
            runtime = connection.runtime
        elif connection.runtime is not runtime:
            raise runtime.other_loop("broadcast()")
    if runtime is not None and not runtime.check_thread():
        call = functools.partial(missed_later, writes, shared, policy)
        return in_its_loop(runtime, "broadcast", call)
    return missed_by(writes, shared, policy)


async def missed_later(list writes, SharedMessage shared, Slow slow):
    return missed_by(writes, shared, slow)


cdef list missed_by(list writes, SharedMessage shared, Slow slow):
    cdef Fate fate
    missed = []
    for write in writes:
        fate = share((<Write>write).connection, shared, slow, None)
        if fate != SENT and fate != WAITS and fate != REPLACES:
            missed.append(write)
    return missed


cdef Fate share(Connection connection, SharedMessage shared, Slow slow, Counts counts) except? GONE:
    """`Connection.share`, which fails for this connection alone."""
    try:
        return connection.share(shared, slow, counts)
    except MemoryError:  # the others go on
        return DROPPED
    except Exception as error:  # of this connection
        connection.stream.fail_sending(error)
        return DROPPED


cdef Slow slow_policy(slow) except? CLOSE_SLOW:
    try:
        return SLOW[slow]
    except (KeyError, TypeError):
        raise InvalidOption(
            f"slow must be 'drop', 'latest' or 'close', not {slow!r}", "slow"
        ) from None


cdef Write the_write(given):
    if isinstance(given, Write):
        return given
    # What other libraries send a message to.
    hint = ": give its .write" if hasattr(given, "write") else ""
    raise InvalidOptionType(
        f"expected the `write` of a connection, not {type(given).__name__}{hint}", "write"
    )


cdef set connections_of(exclude):
    """The connections of the `write`s that are excluded; None: there are none."""
    if isinstance(exclude, Write):
        return {(<Write>exclude).connection}
    if not isinstance(exclude, Iterable):
        raise wrong_type("exclude", "the `write` of a connection, or several", exclude)
    excluded = set()
    for write in exclude:
        excluded.add(the_write(write).connection)
    return excluded if excluded else None


cdef bint has_ended(Runtime runtime) except -1:
    """Whether its loop is over, as far as can be told: trio's runs do not tell."""
    is_closed = getattr(runtime.loop(), "is_closed", None)
    return is_closed is None or is_closed()
