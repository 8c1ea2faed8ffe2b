"""A server's groups, by their names: rooms that are there while somebody is in them."""

from __future__ import annotations

import asyncio
import gc

import pytest
from tests.helpers.raw_peer import BOUND, until, watchdog

from coro_websocket import BroadcastStats, Group, connect, serve

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")


async def test_the_members_of_a_room_hear_each_other_and_nobody_else():
    async def chat(req, read, write):
        room = server.group(req.pathname)
        with room.member(write):
            await write(f"{len(room)} here")
            async for msg in read:
                room.broadcast(msg.payload, exclude=write)

    async with asyncio.timeout(BOUND), serve(chat) as server:
        async with (
            connect(server.url + "red") as (_, read_one, write_one),
            connect(server.url + "blue") as (_, read_other, write_other),
        ):
            assert (await read_one()).payload == (await read_other()).payload == "1 here"
            async with connect(server.url + "red") as (_, read_two, write_two):
                assert (await read_two()).payload == "2 here"
                await write_one("hello")
                assert (await read_two()).payload == "hello"
                await write_two("bye")
                assert (await read_one()).payload == "bye"
            await until(lambda: len(server.group("/red")) == 1)
            await write_other("to nobody")
            await write_other.close()
            assert await read_other() is None
        await until(lambda: len(server.group("/red")) == 0)


async def test_a_name_has_one_group_while_somebody_holds_it_or_is_in_it():
    handling = asyncio.Event()

    async def handler(req, read, write):
        server.group("held by its members").add(write)
        handling.set()
        await read()

    async with asyncio.timeout(BOUND), serve(handler) as server:
        room = server.group("room")
        assert type(room) is Group
        assert room.name == "room"
        assert server.group("room") is room
        assert server.group("another") is not room
        async with connect(server.url):
            await handling.wait()
            gc.collect()
            members = server.group("held by its members")
            assert len(members) == 1
            members.broadcast("x")
            assert members.stats == BroadcastStats(sent=1)
            del members
            assert server.group("held by its members").stats.sent == 1
        await until(lambda: not server.group("held by its members"))
        assert server.group("held by its members").stats == BroadcastStats()


async def test_a_thread_may_ask_for_a_group():
    async with serve(ignore) as server:
        groups = await asyncio.gather(*(asyncio.to_thread(server.group, "room") for _ in range(4)))
        assert all(group is groups[0] for group in groups)


async def ignore(req, read, write):
    pass


@pytest.mark.parametrize("name", [None, 7, b"room"])
async def test_a_name_is_a_str(name):
    async with serve(ignore) as server:
        with pytest.raises(TypeError):
            server.group(name)
