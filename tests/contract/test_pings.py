"""Pings and Pongs, ours and the peer's (RFC 6455 sections 5.5.2 and 5.5.3), and keeping alive."""

from __future__ import annotations

from typing import Any

import pytest

from coro_websocket import (
    ConcurrencyError,
    ConnectionClosedError,
    InvalidMessage,
    InvalidMessageType,
    PingTimeout,
)

from .behaviour import behaviour
from .ends import End
from .loops import Task
from .peers import close, ping, pong, text


async def wait_for(awaitable: Any) -> Any:
    return await awaitable


async def reading(end: End) -> Task:
    """A task that reads: on every end, what the peer says is then taken."""
    return await end.waiting(end.read)


# The peer's Pings


@behaviour()
async def test_a_ping_is_answered_with_its_payload_while_a_task_reads(end: End) -> None:
    await reading(end)
    for payload in (b"", b"p", b"\x00" * 125):
        await end.peer.send(ping(payload))
        await end.peer.expect(pong(payload))


@behaviour()
async def test_a_ping_is_answered_though_nobody_reads(end: End) -> None:
    await end.peer.send(ping("p"))
    await end.peer.expect(pong("p"))


@behaviour()
async def test_each_ping_is_answered_in_order(end: End) -> None:
    await reading(end)
    await end.peer.send(*(ping(str(i)) for i in range(10)))
    await end.peer.expect(*(pong(str(i)) for i in range(10)))


@behaviour()
async def test_the_same_ping_twice_is_answered_twice(end: End) -> None:
    await reading(end)
    await end.peer.send(ping("same"), ping("same"))
    await end.peer.expect(pong("same"), pong("same"))


@behaviour()
async def test_a_ping_is_answered_after_the_message_before_it_was_read(end: End) -> None:
    await end.peer.send(text("1"), ping("p"), text("2"))
    assert (await end.message()).payload == "1"
    assert (await end.message()).payload == "2"
    await end.peer.expect(pong("p"))


@behaviour()
async def test_a_ping_behind_the_peers_close_is_not_answered(end: End) -> None:
    await reading(end)
    await end.peer.send(close(), ping("late"))
    await end.peer.expect(close())
    await end.peer.finish()


@behaviour()
async def test_a_ping_behind_our_close_is_answered_until_the_peers_close_comes(end: End) -> None:
    closing = end.spawn(end.write.close)
    await end.peer.expect(close())
    await end.peer.send(ping("late"))
    await end.peer.expect(pong("late"))
    await end.peer.send(close())
    await end.peer.finish()
    await closing.result()


@behaviour()
async def test_pongs_that_nobody_asked_for_are_ignored(end: End) -> None:
    await end.peer.send(pong(), pong("unsolicited"), text("x"))
    assert (await end.message()).payload == "x"


# Our Pings


@behaviour()
async def test_a_ping_gives_the_seconds_until_its_pong(end: End) -> None:
    await reading(end)
    asked = end.spawn(wait_for, end.write.ping(b"p"))
    await end.peer.expect(ping("p"))
    assert not asked.done
    await end.peer.send(pong("p"))
    seconds = await asked.result()
    assert isinstance(seconds, float)
    assert 0 <= seconds < 8


@behaviour()
async def test_a_ping_has_eight_random_bytes_by_default(end: End) -> None:
    end.write.ping()
    end.write.ping()
    one, other = await end.peer.receive(), await end.peer.receive()
    assert (len(one.payload), len(other.payload)) == (8, 8)
    assert one.payload != other.payload


@pytest.mark.parametrize(
    "payload", ["text", b"bytes", bytearray(b"an array"), b"", b"x" * 125], ids=len
)
@behaviour()
async def test_a_ping_takes_a_payload(end: End, payload: Any) -> None:
    end.write.ping(payload)
    await end.peer.expect(ping(payload if isinstance(payload, str) else bytes(payload)))


@behaviour()
async def test_a_ping_that_may_not_be_sent_is_refused_by_its_call(end: End) -> None:
    with pytest.raises(InvalidMessage, match="125"):
        end.write.ping(b"x" * 126)
    with pytest.raises(InvalidMessage):
        end.write.ping("\ud800")
    with pytest.raises(InvalidMessageType):
        end.write.ping(5)  # type: ignore[arg-type]
    await end.write("next")
    await end.peer.expect(text("next"))


@behaviour()
async def test_a_ping_needs_no_reader(end: End) -> None:
    asked = end.spawn(wait_for, end.write.ping(b"p"))
    await end.peer.expect(ping("p"))
    await end.peer.send(pong("p"))
    assert await asked.result() >= 0


@behaviour()
async def test_a_ping_can_be_awaited_after_its_pong_and_twice(end: End) -> None:
    await reading(end)
    asked = end.write.ping(b"p")
    await end.peer.expect(ping("p"))
    await end.peer.send(pong("p"))
    await end.until(lambda: end.read.stats.latency is not None)
    assert await asked == await asked == end.read.stats.latency


@behaviour()
async def test_two_tasks_may_wait_for_one_ping(end: End) -> None:
    await reading(end)
    asked = end.write.ping(b"p")
    tasks = [await end.waiting(wait_for, asked) for _ in range(2)]
    await end.peer.send(pong("p"))
    assert await tasks[0].result() == await tasks[1].result()


@behaviour()
async def test_a_ping_is_a_future(end: End) -> None:
    await reading(end)
    asked = end.write.ping(b"p")
    told: list[Any] = []
    asked.add_done_callback(told.append)
    assert not asked.done()
    await end.peer.send(pong("p"))
    seconds = await asked
    await end.settle()
    assert told == [asked]
    assert asked.done()
    assert asked.result() == seconds
    assert asked.exception() is None


@behaviour()
async def test_a_second_ping_with_the_same_payload_is_refused_until_the_pong(end: End) -> None:
    await reading(end)
    asked = end.write.ping(b"same")
    with pytest.raises(ConcurrencyError, match="payload"):
        end.write.ping(b"same")
    await end.peer.send(pong("same"))
    await asked
    again = end.write.ping(b"same")
    await end.peer.send(pong("same"))
    await again
    await end.peer.expect(ping("same"), ping("same"))


@behaviour()
async def test_a_pong_answers_the_pings_before_its_own_too(end: End) -> None:
    await reading(end)
    asked = [end.spawn(wait_for, end.write.ping(bytes([i]))) for i in range(3)]
    await end.peer.send(pong(bytes([1])))
    await asked[0].result()
    await asked[1].result()
    await end.settle()
    assert not asked[2].done
    await end.peer.send(pong(bytes([2])))
    await asked[2].result()


@behaviour()
async def test_a_pong_with_another_payload_answers_nothing(end: End) -> None:
    await reading(end)
    asked = end.spawn(wait_for, end.write.ping(b"1"))
    await end.peer.send(pong(), pong("another"))
    await end.settle()
    assert not asked.done
    await end.peer.send(pong("1"))
    await asked.result()


@behaviour()
async def test_who_is_cancelled_while_waiting_for_a_pong_disturbs_nobody(end: End) -> None:
    asked = await end.waiting(wait_for, end.write.ping(b"p"))
    asked.cancel()
    await asked.ended()
    assert asked.cancelled
    await end.peer.send(pong("p"), text("x"))
    assert (await end.message()).payload == "x"


@pytest.mark.parametrize("how", ["the peer closes", "the peer goes", "we close"])
@behaviour()
async def test_a_ping_fails_when_the_connection_ends_before_its_pong(end: End, how: str) -> None:
    await reading(end)
    asked = end.write.ping(b"p")
    end.write.ping(b"of which nobody wants to know")
    await end.peer.receive()
    await end.peer.receive()
    if how == "the peer closes":
        await end.peer.close(4000)
    elif how == "we close":
        closing = end.spawn(end.write.close)
        await end.peer.answer_close()
        await closing.result()
    else:
        end.peer.cut()
    for _ in range(2):
        with pytest.raises(ConnectionClosedError, match="cannot send") as caught:
            await asked
        assert caught.value.code == {"the peer closes": 4000, "we close": 1000}.get(how, 1006)


@behaviour()
async def test_there_is_no_ping_after_the_end(end: End) -> None:
    end.peer.cut()
    with pytest.raises(ConnectionClosedError):
        await end.read()
    with pytest.raises(ConnectionClosedError, match="cannot send"):
        end.write.ping()


# Pongs


@behaviour()
async def test_a_pong_can_be_sent_that_nobody_asked_for(end: End) -> None:
    await end.write.pong()
    await end.write.pong("text")
    await end.write.pong(b"x" * 125)
    await end.peer.expect(pong(), pong("text"), pong(b"x" * 125))


@behaviour()
async def test_a_pong_that_may_not_be_sent_is_refused(end: End) -> None:
    with pytest.raises(InvalidMessage, match="125"):
        await end.write.pong(b"x" * 126)
    with pytest.raises(InvalidMessageType):
        await end.write.pong(5)  # type: ignore[arg-type]
    with pytest.raises(InvalidMessage):
        await end.write.pong("\ud800")
    await end.write("next")
    await end.peer.expect(text("next"))


@behaviour(heartbeat=0.01)
async def test_a_heartbeat_sends_pongs_until_the_close(end: End) -> None:
    await end.peer.expect(pong(), pong())
    closing = end.spawn(end.write.close)
    received = await end.peer.receive()
    while received == pong():
        received = await end.peer.receive()
    assert received == close()
    await end.peer.send(close())
    await end.peer.finish()
    await closing.result()


# Keeping alive


@behaviour(ping_interval=0.02, ping_timeout=0.02)
async def test_a_silent_peer_is_noticed(end: End) -> None:
    with pytest.raises(PingTimeout) as caught:
        await end.read()
    assert caught.value.code == 1006
    assert isinstance(caught.value, TimeoutError)


@behaviour(ping_interval=0.01, ping_timeout=4)
async def test_a_peer_that_answers_the_keepalive_stays(end: End) -> None:
    waiting = await reading(end)
    for _ in range(3):
        await end.peer.send(pong((await end.peer.receive()).payload))
    assert not waiting.done


@behaviour(ping_interval=0.01, ping_timeout=4, ping_message="are you there?")
async def test_a_ping_message_goes_out_in_place_of_pings(end: End) -> None:
    await end.peer.expect(text("are you there?"), text("are you there?"))
