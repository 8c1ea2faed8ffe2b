"""When to send a Ping, and when the peer is gone: with a clock that stands still.

One table for each rule of docs/keepalive.md. A line is a moment at which the keepalive is asked:
the time, what has changed since the line before, the verdict, and when it is to be asked again.
Ping_interval is 10 seconds, ping_timeout 4, unless it says otherwise.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coro_websocket._connection.keepalive import Keepalive, Verdict

NOTHING, ASK, GONE = Verdict

BEGINNING = 1000.0  # of the clock


class Connection:
    """What a connection tells its keepalive: nothing has been received, all that was sent is taken."""

    def __init__(self, ping_interval=10, ping_timeout=4, heartbeat=None):
        self.keepalive = Keepalive(
            BEGINNING,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            heartbeat=heartbeat,
        )
        self.received = 0
        self.sent = self.taken = 100
        self.paused = self.held_back = False
        self.unanswered = True

    def look(self, at, **changes):
        vars(self).update(changes)
        self.held_back |= self.paused
        verdict = self.keepalive.look(
            BEGINNING + at,
            self.received,
            self.sent,
            self.taken,
            self.paused,
            self.held_back,
            self.paused and self.unanswered,
        )
        self.held_back = self.paused
        return verdict

    @property
    def due(self):
        return self.keepalive.due - BEGINNING


def goes(*lines, **options):
    """Ask at each line's time; compare with the line's verdict and the time to ask again."""
    connection = Connection(**options)
    for at, changes, verdict, due in lines:
        assert connection.look(at, **changes) is verdict, at
        if verdict is not GONE:
            assert connection.due == pytest.approx(due), at


def test_a_silent_peer_is_gone_ping_timeout_after_the_first_ping_it_left_unanswered():
    assert Connection().due == 10
    goes((10, {}, ASK, 14), (14, {}, GONE, None))


def test_a_ping_goes_out_every_ping_interval_while_the_deadline_runs():
    goes(
        (10, {}, ASK, 20),
        (20, {}, ASK, 30),
        (30, {}, ASK, 35),
        (35, {}, GONE, None),
        ping_timeout=25,
    )


def test_anything_received_is_a_sign_of_life():
    goes(
        (10, {}, ASK, 14),
        (14, {"received": 1}, NOTHING, 20),
        (20, {}, ASK, 24),
        (24, {"received": 2}, NOTHING, 30),
        (30, {"received": 3}, ASK, 34),
        (34, {}, GONE, None),
    )


def test_what_was_received_before_the_ping_is_no_answer_to_it():
    goes((10, {"received": 5}, ASK, 14), (14, {}, GONE, None))


def test_without_a_ping_timeout_nobody_is_ever_gone():
    goes(*((10 * n, {}, ASK, 10 * n + 10) for n in range(1, 100)), ping_timeout=None)


def test_without_a_ping_interval_it_is_never_to_be_asked():
    connection = Connection(ping_interval=None)
    assert connection.due == connection.keepalive.next_at() == math.inf


def test_a_peer_that_still_takes_what_was_sent_before_the_ping_has_all_the_time_from_then_on():
    goes(
        (10, {"sent": 900, "taken": 100}, ASK, 14),
        (14, {"taken": 400}, NOTHING, 18),
        (18, {"taken": 800}, NOTHING, 20),
        (20, {"taken": 900}, ASK, 24),
        (24, {}, GONE, None),
    )


def test_a_peer_that_takes_no_more_is_gone_though_not_all_was_taken():
    goes(
        (10, {"sent": 900, "taken": 100}, ASK, 14),
        (14, {"taken": 400}, NOTHING, 18),
        (18, {}, GONE, None),
    )


def test_what_was_sent_behind_the_ping_may_be_taken_by_a_system_alone():
    goes((10, {}, ASK, 14), (14, {"sent": 500, "taken": 500}, GONE, None))


def test_while_we_hold_the_socket_back_an_acknowledged_ping_is_enough():
    goes(
        (10, {"paused": True}, ASK, 14.5),
        (14.5, {"sent": 106, "taken": 106}, NOTHING, 20),
        (20, {}, ASK, 24.5),
        (24.5, {"sent": 112, "taken": 112}, NOTHING, 30),
    )


def test_while_we_hold_the_socket_back_it_is_enough_that_the_peer_says_it_has_no_room():
    goes(
        (10, {"paused": True, "sent": 900}, ASK, 14.5),
        (14.5, {"unanswered": False}, NOTHING, 20),
        (20, {"unanswered": True}, ASK, 24.5),
        (24.5, {}, GONE, None),
    )


def test_while_we_hold_the_socket_back_a_peer_that_acknowledges_nothing_is_gone():
    goes((10, {"paused": True}, ASK, 14.5), (14.5, {}, GONE, None))


def test_once_we_read_again_the_deadline_runs_from_the_next_ping():
    goes(
        (10, {"paused": True}, ASK, 14.5),
        (14.5, {"paused": False}, NOTHING, 20),
        (20, {}, ASK, 24),
        (24, {}, GONE, None),
    )


def test_a_socket_that_was_held_back_for_a_moment_was_held_back():
    goes(
        (10, {}, ASK, 14),
        (14, {"held_back": True}, NOTHING, 20),
        (20, {}, ASK, 24),
        (24, {}, GONE, None),
    )


@pytest.mark.parametrize("late", [0.02, 1, 3.9, 4])
def test_a_peer_has_the_time_again_that_the_loop_stood_still_once(late):
    again = 14 + 2 * late
    lines: list[Any] = [(10, {}, ASK, 14), (14 + late, {}, NOTHING, min(20, again))]
    if again > 20:
        lines.append((20, {}, ASK, again))
    goes(*lines, (again + late, {}, GONE, None))


def test_a_loop_that_stood_still_for_long_gives_the_peer_ping_timeout():
    goes((10, {}, ASK, 14), (114, {}, ASK, 118), (118, {}, GONE, None))


def test_a_loop_that_is_late_by_a_little_excuses_nobody():
    goes((10, {}, ASK, 14), (14.01, {}, GONE, None))


def test_a_loop_that_was_late_before_the_ping_excuses_nobody():
    goes((15, {}, ASK, 19), (19, {}, GONE, None))


def test_after_a_sign_of_life_a_loop_that_stands_still_is_excused_again():
    goes(
        (10, {}, ASK, 14),
        (15, {}, NOTHING, 16),
        (16, {"received": 1}, NOTHING, 20),
        (20, {}, ASK, 24),
        (25, {}, NOTHING, 26),
        (26, {}, GONE, None),
    )


def test_a_loop_may_ask_a_millisecond_too_early():
    goes((9.9991, {}, ASK, 13.9991), (13.9982, {}, GONE, None))


def test_asked_earlier_it_says_when_to_ask():
    goes((9, {}, NOTHING, 10), (10, {}, ASK, 14), (12, {}, NOTHING, 14), (14, {}, GONE, None))


def test_heartbeats_come_as_often_as_they_are_wanted_whatever_the_pings_do():
    connection = Connection(heartbeat=3)
    keepalive = connection.keepalive
    assert keepalive.next_at() == BEGINNING + 3
    assert not keepalive.heartbeat_due(BEGINNING + 2.9)
    assert keepalive.heartbeat_due(BEGINNING + 3)
    assert not keepalive.heartbeat_due(BEGINNING + 3)
    assert keepalive.next_at() == BEGINNING + 6
    assert keepalive.heartbeat_due(BEGINNING + 7.5)  # late: the next is as far away
    assert keepalive.next_at() == BEGINNING + 10
    assert connection.look(10) is ASK
    assert keepalive.next_at() == BEGINNING + 10.5


def test_without_heartbeats_none_is_due():
    assert not Connection().keepalive.heartbeat_due(BEGINNING + 1e9)


# For all that may happen

seconds = st.floats(1, 100)
lateness = st.lists(st.floats(0, 30), min_size=1, max_size=30)


@given(seconds, seconds, lateness, st.data())
def test_a_peer_that_sends_something_within_each_ping_timeout_is_never_gone(
    ping_interval, ping_timeout, late, data
):
    connection = Connection(ping_interval, ping_timeout)
    now = heard = 0.0
    for each in late:
        now = max(now, connection.due) + each
        if heard + ping_timeout * 0.9 <= now:
            heard = now - data.draw(st.floats(0, 0.8)) * ping_timeout
            connection.received += 1
        taken = data.draw(st.integers(connection.taken, connection.sent))
        sent = connection.sent + data.draw(st.integers(0, 100))
        paused = data.draw(st.booleans())
        assert connection.look(now, taken=taken, sent=sent, paused=paused) is not GONE


@given(seconds, seconds, lateness, st.booleans(), st.floats(0, 200), st.integers(0, 100))
def test_a_peer_that_falls_silent_is_gone_within_a_bound(
    ping_interval, ping_timeout, late, paused, silent_from, unsent
):
    connection = Connection(ping_interval, ping_timeout)
    connection.paused = paused
    connection.sent += unsent
    most = ping_interval + ping_timeout + (0.5 if paused else 0)
    now = 0.0
    for each in itertools.cycle(late):
        now = max(now, connection.due) + each
        if now <= silent_from:
            connection.received += 1
        verdict = connection.look(now)
        assert now <= silent_from + most + 5 * max(late) + 0.01
        if verdict is GONE:
            break


@given(seconds, seconds, st.booleans(), st.data())
def test_it_is_to_be_asked_again_later_and_at_the_next_ping_at_the_latest(
    ping_interval, ping_timeout, ends, data
):
    connection = Connection(ping_interval, ping_timeout)
    now = 0.0
    for _ in range(30):
        now = connection.due + data.draw(st.floats(0, 50))
        if data.draw(st.booleans()):
            connection.received += 1
        if connection.look(now, paused=data.draw(st.booleans())) is GONE:
            break
        assert now < connection.due <= now + ping_interval + 1e-9
