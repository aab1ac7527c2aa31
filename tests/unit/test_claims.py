"""Room is granted once, and only when a claim is worth its round trip."""

from __future__ import annotations

import threading
import time

from umbel.worker.claims import Claims


def test_room_is_taken_whole_and_counted_until_it_is_given_back() -> None:
    claims = Claims()
    claims.offer(10, idle=0, window=100)
    assert claims.take() == 10
    assert claims.take() == 0
    claims.offer(12, idle=0, window=100)
    assert claims.take() == 2
    claims.give_back(10)
    claims.offer(12, idle=0, window=100)
    assert claims.take() == 10


def test_the_receiving_thread_waits_for_half_a_window() -> None:
    claims = Claims()
    claims.offer(49, idle=0, window=100)
    assert claims.await_room(0.01) == 0
    claims.offer(50, idle=0, window=100)
    assert claims.await_room(0.01) == 50


def test_the_receiving_thread_steps_in_when_a_lane_is_idle() -> None:
    claims = Claims()
    claims.offer(1, idle=1, window=100)
    assert claims.await_room(0.01) == 1


def test_an_offer_wakes_the_waiting_thread() -> None:
    claims = Claims()
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.append(claims.await_room(10.0)))
    thread.start()
    claims.offer(3, idle=1, window=3)
    thread.join(5.0)
    assert got == [3]


def test_nothing_is_granted_after_the_end() -> None:
    claims = Claims()
    claims.offer(3, idle=1, window=3)
    claims.close()
    started = time.monotonic()
    assert claims.take() == 0
    assert claims.await_room(30.0) == 0
    assert time.monotonic() - started < 1
    claims.offer(5, idle=1, window=3)
    assert claims.take() == 0


def test_what_the_settling_thread_publishes_it_may_claim_for_idle_lanes() -> None:
    claims = Claims()
    claims.offer(100, idle=2, window=100)
    assert claims.await_room(0.01) == 100
    assert claims.take(follow_ups=1) == 1
    assert claims.take(follow_ups=5) == 2
    claims.give_back(100)
    claims.offer(100, idle=2, window=100)
    assert claims.await_room(0.01) == 97


def test_a_strict_window_holds_for_follow_ups_too() -> None:
    claims = Claims()
    claims.strict = True
    claims.offer(2, idle=2, window=2)
    assert claims.take(follow_ups=1) == 1
    assert claims.await_room(0.01) == 1
    assert claims.take(follow_ups=1) == 0
