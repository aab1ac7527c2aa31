"""Locks: one holder at a time, for as long as it renews."""

from __future__ import annotations

import secrets
import time

import pytest

from conformance.broker.conftest import Connect
from conformance.waiting import Running, every
from umbel.brokers.base import Broker, Lock
from workers import wait_for


@pytest.fixture
def name() -> str:
    return f"lock-{secrets.token_hex(6)}"


def test_one_holder(broker: Broker, connect: Connect, name: str) -> None:
    first, second, third = broker.lock(name, 30.0), broker.lock(name, 30.0), connect().lock(name, 30.0)
    assert first.acquire()
    assert not second.acquire()
    assert not third.acquire()
    assert first.acquire()
    assert first.renew()
    first.release()
    assert third.acquire()
    assert not first.acquire()
    third.release()


def test_only_the_holder_renews_and_releases(broker: Broker, name: str) -> None:
    first, second = broker.lock(name, 30.0), broker.lock(name, 30.0)
    assert not first.renew()
    assert first.acquire()
    assert not second.renew()
    second.release()
    assert not second.acquire()
    assert first.renew()
    first.release()
    assert not first.renew()
    first.release()


@pytest.mark.calm
@pytest.mark.timed(0.4)
def test_hold_ends_by_itself(broker: Broker, name: str) -> None:
    first, second = broker.lock(name, 1.0), broker.lock(name, 1.0)
    assert first.acquire()
    acquired = time.monotonic()
    wait_for(second.acquire, 5.0)
    assert 0.9 <= time.monotonic() - acquired <= 2.1
    assert not first.renew()
    assert not first.acquire()
    first.release()
    assert second.renew()
    second.release()


@pytest.mark.calm
@pytest.mark.timed(0.4)
def test_renewed_hold_lasts(broker: Broker, name: str) -> None:
    first, second = broker.lock(name, 1.0), broker.lock(name, 1.0)
    assert first.acquire()
    deadline = time.monotonic() + 2.5
    with every(0.2, first.renew):
        while time.monotonic() < deadline:
            assert not second.acquire()
            time.sleep(0.05)
    first.release()


def test_locks_of_other_names_are_apart(broker: Broker, name: str) -> None:
    first, second = broker.lock(name, 30.0), broker.lock(f"{name}-other", 30.0)
    assert first.acquire()
    assert second.acquire()
    first.release()
    second.release()


def test_race_has_one_winner(connect: Connect, name: str) -> None:
    for round in range(5):
        locks: list[Lock] = [connect().lock(f"{name}-{round}", 30.0) for _ in range(4)]
        racing = [Running(lock.acquire) for lock in locks]
        assert sorted(thread.result() for thread in racing) == [False, False, False, True]
        for lock in locks:
            lock.release()
