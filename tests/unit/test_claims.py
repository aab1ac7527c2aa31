"""Room is granted once, and only when a claim is worth its round trip."""

from __future__ import annotations

import threading
import time

from umbel.worker.claims import Claims


def test_room_is_taken_whole_and_counted_until_it_is_given_back() -> None:
    claims = Claims()
    claims.offer(10, idle=False, window=100)
    assert claims.take() == 10
    assert claims.take() == 0
    claims.offer(12, idle=False, window=100)
    assert claims.take() == 2
    claims.give_back(10)
    claims.offer(12, idle=False, window=100)
    assert claims.take() == 10


def test_the_receiving_thread_waits_for_half_a_window() -> None:
    claims = Claims()
    claims.offer(49, idle=False, window=100)
    assert claims.await_room(0.01) == 0
    claims.offer(50, idle=False, window=100)
    assert claims.await_room(0.01) == 50


def test_the_receiving_thread_steps_in_when_a_lane_is_idle() -> None:
    claims = Claims()
    claims.offer(1, idle=True, window=100)
    assert claims.await_room(0.01) == 1


def test_an_offer_wakes_the_waiting_thread() -> None:
    claims = Claims()
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.append(claims.await_room(10.0)))
    thread.start()
    claims.offer(3, idle=True, window=3)
    thread.join(5.0)
    assert got == [3]


def test_nothing_is_granted_after_the_end() -> None:
    claims = Claims()
    claims.offer(3, idle=True, window=3)
    claims.close()
    started = time.monotonic()
    assert claims.take() == 0
    assert claims.await_room(30.0) == 0
    assert time.monotonic() - started < 10
    claims.offer(5, idle=True, window=3)
    assert claims.take() == 0
