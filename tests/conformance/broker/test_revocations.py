"""Revocations: noted for a time, read by everybody, whole or since the last time; gone when their time is over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conformance.broker.conftest import Connect
from conformance.drivers import Driver
from umbel.brokers.base import Broker
from umbel.message import new_id
from umbel.revocations import RECORD_SIZE, Revocations, records_of
from workers import wait_for


@pytest.fixture
def store(broker: Broker) -> Revocations:
    found = broker.revocations()
    if found is None:
        pytest.skip("this system can keep no revocations")
    return found


@pytest.fixture
def other(connect: Connect, store: Revocations) -> Iterator[Revocations]:
    """The same store, seen by somebody else."""
    found = connect().revocations()
    assert found is not None
    yield found


def ids_in(store: Revocations, mark: float = 0.0) -> set[str]:
    return {task_id for each in store.since(mark)[1] for task_id in each.revocation.task_ids}


def test_only_brokers_that_keep_nothing_have_no_store(driver: Driver, broker: Broker) -> None:
    assert (broker.revocations() is None) == (driver.place == "rabbitmq")


def test_what_one_notes_the_others_read(store: Revocations, other: Revocations) -> None:
    task = new_id()
    store.note(records_of([task], "SIGKILL", ["w1@here"]), 60.0)
    found = [each for each in other.since(0.0)[1] if task in each.revocation.task_ids]
    assert len(found) == 1
    assert 50.0 < found[0].seconds <= 60.0
    assert found[0].revocation.signal == "SIGKILL"
    assert found[0].revocation.destination == ("w1@here",)
    assert found[0].revocation.key


def test_a_mark_leads_to_what_is_new(store: Revocations, other: Revocations) -> None:
    old, *new = [new_id() for _ in range(21)]
    store.note(records_of([old]), 60.0)
    mark, _ = other.since(0.0)
    seen: set[str] = set()
    for task in new:
        store.note(records_of([task]), 60.0)
        mark, found = other.since(mark)
        seen |= {each for noted in found for each in noted.revocation.task_ids}
        assert task in seen
    assert set(new) <= seen
    assert {old, *new} <= ids_in(store)


def test_an_empty_store_has_a_mark_too(store: Revocations) -> None:
    mark, found = store.since(0.0)
    task = new_id()
    store.note(records_of([task]), 60.0)
    assert task in ids_in(store, mark)
    assert not any(task in each.revocation.task_ids for each in found)


def test_many_ids(store: Revocations, other: Revocations) -> None:
    tasks = {new_id() for _ in range(2 * RECORD_SIZE + 1)}
    records = records_of([*tasks, *tasks])
    assert len(records) == 3
    store.note(records, 60.0)
    assert tasks <= ids_in(other)


def test_what_has_ceased_to_hold_is_not_read(store: Revocations) -> None:
    brief, long = new_id(), new_id()
    store.note(records_of([brief]), 0.3)
    store.note(records_of([long]), 60.0)
    assert wait_for(lambda: brief not in ids_in(store))
    assert long in ids_in(store)


def test_nothing_is_left_behind(
    store: Revocations, driver: Driver, url: str, connect: Connect, request: pytest.FixtureRequest
) -> None:
    place = request.getfixturevalue("fresh_url")(driver.place) if driver.has_server else url
    store = connect(url=place).revocations() or store
    for _ in range(3):
        store.note(records_of([new_id()]), 0.2)
        wait_for(lambda: not store.since(0.0)[1])
    left = driver.hooks.objects(place)
    if left is not None:
        assert len([each for each in left if "revocations" in str(each)]) <= 1, "the last one goes with the next"
