"""Whose turn it is to send a message: without a loop, a network or an engine."""

from __future__ import annotations

import random

import pytest

from coro_websocket import ConcurrencyError, Message
from coro_websocket._connection.turns import Turns
from coro_websocket._runtimes.asyncio_runtime import AsyncioWaiter


class Loop:
    """What is called soon is called by `run`; or not, where there is no memory."""

    def __init__(self):
        self.ready = []
        self.running = None
        self.failing = 0

    def call_soon(self, callback, *args, context=None):
        if self.failing:
            self.failing -= 1
            raise MemoryError
        self.ready.append((callback, args))

    def run(self):
        while self.ready:
            callback, args = self.ready.pop(0)
            callback(*args)


class Pause:
    """Until the task is stepped."""

    def __await__(self):
        yield self

    def add_done_callback(self, callback):
        pass

    def cancel(self):
        pass


class Task:
    """Runs a coroutine on such a loop."""

    def __init__(self, loop, coroutine):
        self.loop = loop
        self.coroutine = coroutine
        self.waiter = None
        self.cancelling = False
        self.watching = []
        self.result = ...
        self.step()

    def step(self, _=None):
        self.loop.running = self
        try:
            if self.cancelling:
                self.waiter = self.coroutine.throw(KeyboardInterrupt)
            else:
                self.waiter = self.coroutine.send(None)
            self.waiter.add_done_callback(self.step)
        except StopIteration as stop:
            self.done(stop.value)
        except (Exception, KeyboardInterrupt) as error:
            self.done(error)
        finally:
            self.loop.running = None

    def done(self, result):
        self.result = result
        for watch in self.watching:
            watch(self)

    def cancel(self):
        self.cancelling = True
        self.waiter.cancel()


class RecordedTurns(Turns):
    def __init__(self):
        self.loop = Loop()
        self.log = []
        self.sending = lambda message: None

    def current_task(self):
        return self.loop.running

    def watch(self, task):
        task.watching.append(self.owner_ended)
        return 0

    def unwatch(self, task):
        task.watching.remove(self.owner_ended)
        return 0

    def new_waiter(self):
        return AsyncioWaiter(self.loop)

    def send(self, message):
        self.sending(message)
        self.log.append(message.payload)
        return 0

    def break_off(self):
        self.log.append("broken off")
        return self.end()

    def fail_memory(self):
        self.log.append("out of memory")
        return self.end(True)

    def task(self, call, *args):
        return Task(self.loop, call(*args))

    async def write(self, name):
        """A whole message."""
        if not await self.take():
            return "ended"
        self.log.append(name)
        self.pass_on()
        return "written"

    async def begin_message(self, name):
        """The first fragment of a message; the task waits inside it until it is stepped."""
        if self.taken and not self.is_mine():
            await self.take()
        self.begin()
        self.log.append(name)
        await Pause()
        self.pass_on()


@pytest.fixture
def turns():
    return RecordedTurns()


def test_who_finds_no_message_has_the_turn_at_once(turns):
    assert turns.task(turns.write, "a").result == "written"
    assert turns.log == ["a"]
    assert not turns.taken


def test_turns_are_given_in_the_order_of_asking(turns):
    fragmented = turns.task(turns.begin_message, "first")
    tasks = [turns.task(turns.write, name) for name in "abc"]
    turns.loop.run()
    assert turns.log == ["first"]
    fragmented.step()
    turns.loop.run()
    assert turns.log == ["first", *"abc"]
    assert [task.result for task in tasks] == ["written"] * 3
    assert not turns.taken


def test_a_message_of_the_background_is_sent_in_its_place_without_a_task(turns):
    fragmented = turns.task(turns.begin_message, "first")
    turns.add_background(Message("one"), 3)
    turns.task(turns.write, "a")
    turns.add_background(Message("two"), 3)
    turns.add_background(Message("three"), 5)
    turns.task(turns.write, "b")
    assert turns.background_size == 11
    fragmented.step()
    assert turns.log == ["first", "one"]
    assert turns.background_size == 8
    turns.loop.run()
    assert turns.log == ["first", "one", "a", "two", "three", "b"]
    assert turns.background_size == 0
    assert not turns.taken


def test_what_is_written_while_a_message_of_the_background_is_sent_waits(turns):
    fragmented = turns.task(turns.begin_message, "first")
    turns.add_background(Message("one"), 3)
    turns.add_background(Message("two"), 3)
    turns.sending = lambda message: message.payload == "one" and turns.task(turns.write, "a")
    fragmented.step()
    assert turns.log == ["first", "one", "two"]
    turns.loop.run()
    assert turns.log == ["first", "one", "two", "a"]


def test_who_is_cancelled_gets_no_turn(turns):
    fragmented = turns.task(turns.begin_message, "first")
    tasks = [turns.task(turns.write, name) for name in "abc"]
    tasks[0].cancel()
    turns.loop.run()
    tasks[1].cancel()  # it has not gone on when the turn is passed
    fragmented.step()
    turns.loop.run()
    assert turns.log == ["first", "c"]
    assert not turns.taken


def test_who_is_cancelled_in_the_moment_of_its_turn_passes_it_on(turns):
    fragmented = turns.task(turns.begin_message, "first")
    cancelled = turns.task(turns.write, "a")
    turns.add_background(Message("one"), 3)
    turns.task(turns.write, "b")
    fragmented.step()
    cancelled.cancel()
    turns.loop.run()
    assert isinstance(cancelled.result, KeyboardInterrupt)
    assert turns.log == ["first", "one", "b"]
    assert not turns.taken


def test_a_coroutine_that_is_never_awaited_keeps_nobody_waiting(turns):
    fragmented = turns.task(turns.begin_message, "first")
    never = turns.take()
    turns.task(turns.write, "a")
    fragmented.step()
    turns.loop.run()
    never.close()
    assert turns.log == ["first", "a"]


def test_a_task_cannot_begin_a_message_inside_its_own_rfc_6455_5_4(turns):
    async def both():
        turns.begin()
        assert turns.is_mine()
        await turns.write("another")

    task = turns.task(both)
    assert isinstance(task.result, ConcurrencyError)
    assert "fin=True" in str(task.result)


def test_a_task_that_ends_in_its_message_breaks_it_off(turns):
    async def unfinished():
        turns.begin()

    fragmented = turns.task(turns.begin_message, "first")
    second = turns.task(turns.write, "a")
    turns.add_background(Message("one"), 3)
    fragmented.cancel()
    fragmented.step()
    assert turns.log == ["first", "broken off"]
    turns.loop.run()
    assert second.result == "ended"
    assert turns.background_size == 0
    turns = RecordedTurns()
    turns.task(unfinished)
    assert turns.log == ["broken off"]


def test_a_task_that_ends_after_its_message_breaks_off_no_other(turns):
    first = turns.task(turns.begin_message, "first")
    second = turns.task(turns.begin_message, "second")
    first.step()
    assert first.watching == []
    turns.loop.run()
    assert turns.log == ["first", "second"]
    first.done(None)
    second.step()
    assert turns.log == ["first", "second"]


def test_while_a_thread_transforms_a_whole_message_everybody_waits(turns):
    async def large():
        turns.transform("frame", True, True)
        assert not turns.is_mine()
        assert not turns.is_mine_next()
        await turns.write("of the same task")

    task = turns.task(large)
    turns.task(turns.write, "a")
    turns.loop.run()
    assert turns.log == []
    turns.transformed("frame", True)
    turns.loop.run()
    assert turns.log == ["of the same task", "a"]
    assert task.watching == []


@pytest.mark.parametrize("begins", [True, False])
def test_while_a_thread_transforms_a_fragment_its_task_is_the_next(turns, begins):
    async def large():
        if not begins:
            turns.begin()
        turns.transform("frame", begins, False)
        assert turns.is_mine_next()
        assert not turns.is_mine()
        with pytest.raises(ConcurrencyError):
            await turns.take()
        await Pause()
        assert turns.is_mine()
        turns.transform("another", False, True)
        assert not turns.is_mine_next()
        await Pause()
        return "both"

    async def other():
        assert not turns.is_mine()
        assert not turns.is_mine_next()
        await turns.write("other")

    task = turns.task(large)
    turns.task(other)
    turns.transformed("frame", False)
    turns.loop.run()
    assert turns.log == []
    task.step()
    turns.transformed("another", True)
    turns.loop.run()
    task.step()
    assert task.result == "both"
    assert turns.log == ["other"]


def test_a_task_that_ends_while_a_thread_transforms_its_fragment_is_noticed_then(turns):
    async def large():
        turns.transform("frame", True, False)

    turns.task(large)
    waiting = turns.task(turns.write, "a")
    turns.loop.run()
    assert turns.log == []
    turns.transformed("frame", False)
    turns.loop.run()
    assert turns.log == ["broken off"]
    assert waiting.result == "ended"


def test_a_task_that_ends_while_a_thread_transforms_its_last_fragment_breaks_nothing_off(turns):
    async def large():
        turns.begin()
        turns.transform("frame", False, True)

    turns.task(large)
    turns.transformed("frame", True)
    assert turns.log == []
    assert not turns.taken


def test_a_last_fragment_that_cannot_be_transformed_breaks_its_message_off(turns):
    async def large():
        turns.begin()
        turns.transform("frame", False, True)
        await Pause()

    turns.task(large)
    turns.transformed("frame", False)
    assert turns.log == ["broken off"]


def test_a_message_may_be_given_up_while_a_thread_transforms_a_fragment_of_it(turns):
    async def large():
        turns.transform("frame", True, False)
        turns.give_up()

    turns.task(large)
    turns.transformed("frame", False)
    assert turns.log == ["broken off"]


def test_the_end_wakes_everybody_and_drops_the_background(turns):
    turns.task(turns.begin_message, "first")
    tasks = [turns.task(turns.write, name) for name in "ab"]
    turns.add_background(Message("one"), 3)
    turns.end()
    turns.loop.run()
    assert [task.result for task in tasks] == ["ended"] * 2
    assert turns.log == ["first"]
    assert turns.background_size == 0
    assert not turns.taken


def test_who_is_given_the_turn_in_the_moment_of_the_end_learns_of_the_end(turns):
    fragmented = turns.task(turns.begin_message, "first")
    waiting = turns.task(turns.write, "a")
    fragmented.step()
    turns.end()
    turns.loop.run()
    assert waiting.result == "ended"


def test_after_the_end_nobody_waits_and_nothing_is_taken(turns):
    turns.end()
    writing = turns.task(turns.write, "refused by the engine")
    assert writing.result == "written"
    turns.task(turns.begin_message, "so is this")
    assert not turns.taken
    turns.give_up()
    assert "broken off" not in turns.log


def test_who_cannot_be_woken_at_the_end_is_woken_the_next_time(turns):
    turns.task(turns.begin_message, "first")
    tasks = [turns.task(turns.write, name) for name in "abc"]
    turns.loop.failing = 2
    with pytest.raises(MemoryError):
        turns.end()
    turns.loop.run()
    assert [task.result for task in tasks] == [..., ..., "ended"]
    turns.end()
    turns.loop.run()
    assert [task.result for task in tasks] == ["ended"] * 3


def test_where_nobody_can_be_given_the_turn_the_connection_is_lost(turns):
    fragmented = turns.task(turns.begin_message, "first")
    waiting = turns.task(turns.write, "a")
    turns.loop.failing = 1
    fragmented.step()
    turns.loop.run()
    assert turns.log == ["first", "out of memory"]
    assert waiting.result == "ended"


@pytest.mark.parametrize("error", [MemoryError, ValueError])
def test_a_message_of_the_background_that_fails_keeps_nobody_waiting(turns, error):
    def fail(message):
        raise error

    fragmented = turns.task(turns.begin_message, "first")
    turns.add_background(Message("one"), 3)
    waiting = turns.task(turns.write, "a")
    turns.sending = fail
    fragmented.step()
    turns.loop.run()
    if error is MemoryError:
        assert turns.log == ["first", "out of memory"]
        assert waiting.result == "ended"
    else:
        assert turns.log == ["first", "a"]
    assert not turns.taken


@pytest.mark.parametrize("seed", range(50))
def test_whatever_happens_messages_are_sent_one_at_a_time_in_the_order_of_asking(turns, seed):
    rng = random.Random(seed)
    asked = []
    tasks = {}
    for n in range(100):
        name = str(n)
        kind = rng.choice(["background", "whole", "fragments", "cancel", "run", "go on"])
        if kind in ("whole", "fragments"):
            asked.append(name)
            call = turns.write if kind == "whole" else turns.begin_message
            tasks[name] = turns.task(call, name)
        elif kind == "background" and turns.taken:
            asked.append(name)
            turns.add_background(Message(name), 1)
        elif kind == "cancel" and tasks:
            name, task = tasks.popitem()
            if task.result is ... and name not in turns.log:
                task.cancel()
                asked.remove(name)
        elif kind == "run":
            turns.loop.run()
        elif kind == "go on" and turns.owner and isinstance(turns.owner.waiter, Pause):
            turns.owner.step()
    turns.loop.run()
    while turns.taken:
        turns.owner.step()
        turns.loop.run()
    assert turns.log == asked
    assert turns.background_size == 0
