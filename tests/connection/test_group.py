"""Groups: who is in them, what becomes of a message for who is slow, and that nobody stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.helpers.raw_peer import (
    BINARY,
    CLOSE,
    CONT,
    TEXT,
    End,
    Peer,
    both_ends,
    close_payload,
    end_and_peer,
    watchdog,
)

from coro_websocket import (
    BroadcastStats,
    ConnectionClosedError,
    Deflate,
    Group,
    InvalidMessage,
    InvalidMessageType,
    InvalidOption,
    Message,
    OtherEventLoopError,
    broadcast,
)
from coro_websocket.testing import connected_pair

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")

HIGH_WATER = 100_000
CHUNK = bytes(20_000)


@contextlib.asynccontextmanager
async def members(*sides: str) -> AsyncIterator[tuple[Group, list[tuple[End, Peer]]]]:
    """A group with a member for each side, all of which have their peers."""
    group = Group()
    async with contextlib.AsyncExitStack() as stack:
        pairs = [await stack.enter_async_context(end_and_peer(side)) for side in sides]
        for end, _ in pairs:
            group.add(end.write)
        yield group, pairs


# Who is in it


async def test_every_member_gets_a_message():
    async with members("server", "client", "server") as (group, pairs):
        assert group.broadcast("Grüße") == BroadcastStats(sent=3)
        assert group.broadcast(bytes(100_000), compress=False) == BroadcastStats(sent=3)
        for _, peer in pairs:
            assert await peer.message() == (TEXT, "Grüße".encode())
            assert await peer.message() == (BINARY, bytes(100_000))
        assert group.stats == BroadcastStats(sent=6)


async def test_it_is_a_set_in_the_order_of_joining():
    async with members("server", "server") as (group, [(one, _), (two, _)]):
        group.add(one.write)
        assert list(group) == [one.write, two.write]
        assert (len(group), one.write in group, one.read in group) == (2, True, False)
        group.discard(one.write)
        group.discard(one.write)
        assert (list(group), one.write in group) == ([two.write], False)
        group.add(one.write)
        assert list(group) == [two.write, one.write]


async def test_those_who_are_excluded_do_not_get_it():
    async with members("server", "server", "server") as (group, pairs):
        writes = [end.write for end, _ in pairs]
        assert group.broadcast("not to the first", exclude=writes[0]).sent == 2
        assert group.broadcast("to the last", exclude=writes[:2]).sent == 1
        assert group.broadcast("to all", exclude=set()).sent == 3
        expected = [["to all"], ["not to the first", "to all"]]
        expected.append(["not to the first", "to the last", "to all"])
        for (_, peer), texts in zip(pairs, expected, strict=True):
            assert [(await peer.message())[1].decode() for _ in texts] == texts


async def test_one_may_be_in_many_groups_and_leaves_them_all_when_it_ends():
    groups = [Group(str(number)) for number in range(5)]
    async with end_and_peer("server") as (end, peer):
        for group in groups:
            group.add(end.write)
        assert [len(group) for group in groups] == [1] * 5
        peer.hang_up()
        await end.write.wait_closed()
        assert [len(group) for group in groups] == [0] * 5
        groups[0].add(end.write)  # has ended already
        assert len(groups[0]) == 0


async def test_a_block_takes_it_out_however_it_is_left():
    async with members() as (group, _), end_and_peer("server") as (end, _):
        with contextlib.suppress(ZeroDivisionError):
            with group.member(end.write) as entered:
                assert entered is group
                assert end.write in group
                raise ZeroDivisionError
        assert end.write not in group
        with group.member(end.write):
            with group.member(end.write):
                assert len(group) == 1
            assert len(group) == 1
            group.discard(end.write)
        assert len(group) == 0


async def test_one_that_is_closing_is_sent_nothing_and_leaves():
    async with members("server", "server") as (group, [(one, peer), (two, other)]):
        closing = asyncio.ensure_future(one.write.close())
        assert group.broadcast("x") == BroadcastStats(sent=1)
        assert list(group) == [two.write]
        group.add(one.write)
        assert list(group) == [two.write]
        await peer.write(CLOSE, close_payload(1000))
        peer.hang_up()
        await closing
        assert await other.message() == (TEXT, b"x")


async def test_those_who_leave_while_it_is_sent_are_no_trouble():
    async with members("server", "server", "server") as (group, pairs):

        class Leaving:
            def __call__(self, *_: object) -> None:
                for write in group:
                    group.discard(write)

        connection_of(pairs[0][0]).engine.trace = Leaving()
        assert group.broadcast("last").sent == 3
        assert len(group) == 0
        for _, peer in pairs:
            assert await peer.message() == (TEXT, b"last")


def connection_of(end: End) -> Any:
    return next(each for each in gc.get_referents(end.write) if hasattr(each, "engine"))


async def test_neither_a_group_nor_a_member_keeps_the_other():
    group = Group()
    (_, read, write), (_, peer_read, peer_write) = connected_pair()
    group.add(write)
    group.broadcast("x")
    gone = weakref.ref(group)
    del group
    assert gone() is not None  # its member holds it
    gc.disable()
    try:
        await asyncio.gather(write.close(), peer_write.close())
        assert gone() is None
    finally:
        gc.enable()
    group = Group()
    group.add(write)
    assert len(group) == 0


@pytest.mark.deep("10000")
@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("count", [100, 10_000])
async def test_any_number_of_members_come_get_it_and_go(count):
    group, pairs = Group(), [connected_pair(compression=None) for _ in range(count // 2)]
    writes = [each for (_, _, one), (_, _, other) in pairs for each in (one, other)]
    for write in writes:
        group.add(write)
    assert group.broadcast("to all").sent == count
    for (_, read, _), (_, peer_read, _) in pairs:
        assert (await read()).payload == (await peer_read()).payload == "to all"
    await asyncio.gather(*(write.close() for write in writes))
    assert len(group) == 0
    assert group.stats == BroadcastStats(sent=count)


# Who is slow


@contextlib.asynccontextmanager
async def slow_member(**options: Any) -> AsyncIterator[tuple[Group, End, Peer, int]]:
    """A group with one member whose peer has not read, and how many chunks it was sent."""
    group = Group()
    options = {"receive_buffer": 4096, "write_high_water": HIGH_WATER, **options}
    async with end_and_peer("server", **options) as (end, peer):
        group.add(end.write)
        sent = 0
        while group.broadcast(CHUNK, compress=False).sent:
            sent += 1
        yield group, end, peer, sent


async def test_a_message_is_dropped_for_who_is_slow():
    async with slow_member() as (group, end, peer, sent):
        assert group.broadcast("lost") == BroadcastStats(dropped=1)
        assert group.stats == BroadcastStats(sent=sent, dropped=2)
        for _ in range(sent):
            assert await peer.message() == (BINARY, CHUNK)
        assert group.broadcast("not lost") == BroadcastStats(sent=1)
        assert await peer.message() == (TEXT, b"not lost")


async def test_only_the_newest_waits_for_who_is_slow_and_comes_when_it_has_read():
    async with slow_member() as (group, end, peer, sent):
        assert group.broadcast("first", slow="latest") == BroadcastStats(waiting=1)
        for number in range(100):
            counted = group.broadcast(f"price {number}", slow="latest")
            assert counted == BroadcastStats(waiting=1, replaced=1)
        assert group.stats == BroadcastStats(sent=sent, dropped=1, waiting=1, replaced=100)
        for _ in range(sent):
            assert await peer.message() == (BINARY, CHUNK)
        assert await peer.message() == (TEXT, b"price 99")
        assert group.stats == BroadcastStats(sent=sent + 1, dropped=1, replaced=100)
        assert group.broadcast("price 100", slow="latest") == BroadcastStats(sent=1)
        assert await peer.message() == (TEXT, b"price 100")


async def test_the_newest_comes_over_tls_too(certificates):
    options = {"tls": certificates.client, "read_high_water": 10_000}
    served = {"tls": certificates.server, "write_high_water": HIGH_WATER}
    async with both_ends(server_options=served, **options) as (client, server):
        group = Group()
        group.add(server.write)
        while group.broadcast(CHUNK, slow="latest", compress=False).sent:
            pass
        await client.settle()
        for number in range(10):
            assert group.broadcast(f"price {number}", slow="latest").replaced == 1
        sent = group.stats.sent
        for _ in range(sent):
            assert (await client.read()).payload == CHUNK
        assert (await client.read()).payload == "price 9"
        assert group.stats == BroadcastStats(sent=sent + 1, replaced=10)


async def test_nothing_of_the_same_group_overtakes_what_waits():
    async with slow_member() as (group, end, peer, sent):
        group.broadcast("waits", slow="latest")
        while end.write.stats.bytes_out < (sent - 4) * len(CHUNK):
            assert await peer.message() == (BINARY, CHUNK)
            sent -= 1
        assert group.broadcast("dropped", slow="drop") == BroadcastStats(dropped=1)
        for _ in range(sent):
            assert await peer.message() == (BINARY, CHUNK)
        assert await peer.message() == (TEXT, b"waits")


async def test_each_group_has_its_own_newest():
    async with slow_member() as (group, end, peer, sent):
        other = Group()
        other.add(end.write)
        for number in range(3):
            group.broadcast(f"one {number}", slow="latest")
            other.broadcast(f"other {number}", slow="latest")
            assert broadcast([end.write], f"none's {number}", slow="latest") == []
        for _ in range(sent):
            await peer.message()
        texts = [await peer.message() for _ in range(3)]
        assert texts == [(TEXT, b"one 2"), (TEXT, b"other 2"), (TEXT, b"none's 2")]
        assert other.stats == BroadcastStats(sent=1, replaced=2)


async def test_what_waits_is_dropped_for_who_leaves_or_ends():
    async with slow_member() as (group, end, peer, sent):
        other = Group()
        other.add(end.write)
        other.broadcast("waits", slow="latest")
        group.broadcast("waits", slow="latest")
        group.discard(end.write)
        assert group.stats == BroadcastStats(sent=sent, dropped=2)
        closing = asyncio.ensure_future(end.write.wait_closed())
        peer.reset()
        await closing
        assert other.stats == BroadcastStats(dropped=1)
        assert len(other) == 0


async def test_who_is_slow_is_closed_and_told_why():
    async with slow_member() as (group, end, peer, sent):
        assert group.broadcast("x", slow="close") == BroadcastStats(closed=1)
        assert len(group) == 0
        assert group.stats == BroadcastStats(sent=sent, dropped=1, closed=1)
        with pytest.raises(ConnectionClosedError, match="too slow") as told:
            await end.write("too late")
        assert (told.value.code, told.value.reason) == (1013, "too slow")
        for _ in range(sent):
            assert await peer.message() == (BINARY, CHUNK)
        assert await peer.close_received() == (1013, "too slow")
        await peer.write(CLOSE, close_payload(1013))
        assert await end.read() is None


async def test_one_that_never_reads_is_gone_when_closing_takes_too_long():
    async with slow_member(close_timeout=0.05) as (group, end, peer, sent):
        assert broadcast([end.write], "x", slow="close") == [end.write]
        await end.write.wait_closed()
        assert end.read.close_code == 1006


async def test_a_slow_member_costs_bounded_memory_and_the_others_get_everything():
    async with slow_member() as (group, end, _, sent), end_and_peer("server") as (fast, peer):
        group.add(fast.write)
        for slow in ("drop", "latest"):
            for _ in range(50):
                counted = group.broadcast(CHUNK, slow=slow, compress=False)
                assert counted.sent == 1
                assert await peer.message() == (BINARY, CHUNK)
        stats = end.write.stats
        connection = connection_of(end)
        assert connection.engine.bytes_encoded - stats.bytes_out <= HIGH_WATER + len(CHUNK) + 4


async def test_the_newest_waits_behind_a_fragmented_message_that_much_waits_for():
    async with end_and_peer("server", write_high_water=10_000) as (end, peer):
        group = Group()
        group.add(end.write)
        await end.write(Message("begin", TEXT, fin=False))
        while group.broadcast(bytes(1000)).sent:
            pass
        waiting = group.stats.sent
        group.broadcast("old", slow="latest")
        assert group.broadcast("new", slow="latest").replaced == 1
        await end.write(Message("end", CONT))
        assert await peer.message() == (TEXT, b"beginend")
        for _ in range(waiting):
            assert await peer.message() == (BINARY, bytes(1000))
        assert await peer.message() == (TEXT, b"new")


@pytest.mark.parametrize("slow", ["never", None, 7, ["drop"]])
async def test_a_policy_is_one_of_three(slow):
    async with members("server") as (group, [(end, peer)]):
        for call in (lambda **how: broadcast([end.write], "x", **how), broadcast_to(group)):
            with pytest.raises(InvalidOption, match="slow must be 'drop', 'latest' or 'close'"):
                call(slow=slow)
        await end.write("first")
        assert await peer.message() == (TEXT, b"first")


def broadcast_to(group: Group) -> Any:
    return lambda **how: group.broadcast("x", **how)


async def test_what_cannot_be_sent_is_sent_to_nobody():
    async with members("server") as (group, [(end, peer)]):
        for message, error in [
            ("\ud800", InvalidMessage),
            (Message("part", 1, fin=False), InvalidMessage),
            (Message("x", 1, rsv1=True), InvalidMessage),
            (7, InvalidMessageType),
            (None, InvalidMessageType),
        ]:
            with pytest.raises(error):
                group.broadcast(message)  # type: ignore[arg-type]
        for call in (group.add, group.discard, group.member):
            with pytest.raises(TypeError):
                call(end.read)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            group.add(None)
        with pytest.raises(TypeError):
            group.broadcast("x", exclude=[end.read])  # type: ignore[list-item]
        await end.write("first")
        assert await peer.message() == (TEXT, b"first")


# Threads and loops


async def in_a_thread(function: Any, *arguments: Any) -> Any:
    return await asyncio.to_thread(function, *arguments)


async def test_a_thread_may_broadcast_and_look_but_not_change_the_members():
    loop = asyncio.get_running_loop()
    async with members("server", "client") as (group, pairs):
        write = pairs[0][0].write

        def from_elsewhere() -> BroadcastStats:
            assert (len(group), write in group, len(list(group))) == (2, True, 2)
            for call in (group.add, group.discard):
                with pytest.raises(OtherEventLoopError, match="call_soon_threadsafe"):
                    call(write)
            coroutine: Any = group.broadcast("to all", exclude=[write])
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result(8)

        assert await in_a_thread(from_elsewhere) == BroadcastStats(sent=1)
        assert await pairs[1][1].message() == (TEXT, b"to all")

        async def in_another_loop() -> None:
            await group.broadcast("x")  # type: ignore[misc]

        with pytest.raises(OtherEventLoopError, match=r"group\.broadcast"):
            await in_a_thread(asyncio.run, in_another_loop())


async def test_a_thread_may_broadcast_before_anybody_has_come():
    loop = asyncio.get_running_loop()
    group = Group()

    def from_elsewhere() -> BroadcastStats:
        coroutine: Any = group.broadcast("to nobody")
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(8)

    assert await in_a_thread(from_elsewhere) == BroadcastStats()
    assert group.broadcast("to nobody") == BroadcastStats()


def test_a_group_goes_from_one_loop_to_the_next():
    group = Group()

    async def use_it() -> None:
        assert group.broadcast("to nobody") == BroadcastStats()
        (_, read, write), (_, _, peer_write) = connected_pair()
        group.add(peer_write)
        assert group.broadcast("x") == BroadcastStats(sent=1)
        assert (await read()).payload == "x"
        await asyncio.gather(write.close(), peer_write.close())

    for _ in range(2):
        asyncio.run(use_it())


async def test_members_of_two_loops_are_refused():
    group = Group()
    async with end_and_peer("server") as (end, _):
        group.add(end.write)

        async def add_another() -> None:
            (_, _, write), (_, _, peer_write) = connected_pair()
            with pytest.raises(OtherEventLoopError, match="a group of its own"):
                group.add(write)
            await asyncio.gather(write.close(), peer_write.close())

        await in_a_thread(asyncio.run, add_another())


async def test_what_it_shows():
    async with members("server") as (group, _):
        assert repr(group) == "<group, members: 1>"
    assert repr(Group("chat")) == "<group 'chat', members: 0>"
    assert Group("chat").name == "chat"


# What fails


async def test_an_error_of_one_connection_is_its_own(caplog):
    """On transports that raise: those of loops that somebody has written."""
    (_, _, write), (_, _, peer_write) = connected_pair()
    async with members("server") as (group, [(end, peer)]):
        group.discard(end.write)
        group.add(peer_write)
        group.add(end.write)

        def fail(data: bytes) -> None:
            raise RuntimeError("a bug in the transport")

        connection_of(End(None, peer_write, None)).stream.transport.write = fail
        assert group.broadcast("to all") == BroadcastStats(sent=1, dropped=1)
        assert await peer.message() == (TEXT, b"to all")
        await peer_write.wait_closed()
        assert list(group) == [end.write]
        assert "a bug in the transport" in caplog.text
    await write.close()


async def test_what_is_awaited_where_no_loop_runs_is_refused():
    async with members("server") as (group, _):

        def elsewhere() -> None:
            coroutine: Any = group.broadcast("x")
            with pytest.raises(OtherEventLoopError):
                coroutine.send(None)
            coroutine = Group().broadcast("x")
            with pytest.raises(StopIteration) as ended:
                coroutine.send(None)
            assert ended.value.value == BroadcastStats()

        await in_a_thread(elsewhere)


async def test_a_threshold_may_be_any_number():
    async with end_and_peer("server", compression=Deflate(threshold=2**100)) as (end, peer):
        assert broadcast([end.write], "x" * 1000) == []
        assert await peer.message() == (TEXT, b"x" * 1000)
