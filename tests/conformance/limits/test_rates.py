"""What must hold of rates wherever they are kept. Moments are judged by the store's own clock, so intervals are long:
what a test asks for is ordered long before anything is due."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from umbel import Umbel
from umbel.limits.buckets import OVERDUE, SOON, Ask, RateStore
from umbel.limits.opening import open_rates
from umbel.limits.rates_memory import MemoryRates

Open = Callable[[], RateStore]


@pytest.fixture(params=["own", "memory", "sqlite", "redis", "postgresql", "mariadb"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Makes a store as one worker has it; all see the same buckets, as far as stores are shared."""
    if request.param == "own":
        store = MemoryRates()
        yield lambda: store
        return
    if request.param in ("memory", "sqlite"):
        url = f"memory://{secrets.token_hex(6)}" if request.param == "memory" else f"sqlite:///{tmp_path}/umbel.db"
    else:
        url = request.getfixturevalue("fresh_url")(request.param)
    apps: list[Umbel] = []

    def make() -> RateStore:
        apps.append(Umbel(broker=url, backend=url, set_as_current=False))
        return open_rates(apps[-1], "the test")

    yield make
    for app in apps:
        app.close()


@pytest.fixture
def store(open_store: Open) -> RateStore:
    return open_store()


def ask(*ids: str, interval: float = 60.0, bucket: str = "task") -> list[Ask]:
    return [Ask(bucket, id, interval) for id in ids]


def near(expected: float) -> object:
    """Up to some seconds may have passed on a busy machine."""
    return pytest.approx(expected - 5, abs=5.1)


def test_one_runs_and_the_others_are_given_moments_in_order(store: RateStore) -> None:
    assert store.take(ask("a", "b", "c", "d")) == [0.0, near(60), near(120), near(180)]


def test_moments_are_an_interval_apart_to_the_millisecond(store: RateStore) -> None:
    waits = store.take(ask(*map(str, range(200)), interval=7.3))
    assert [later - sooner for sooner, later in itertools.pairwise(waits)] == pytest.approx([7.3] * 199, abs=0.002)


def test_who_comes_back_early_keeps_its_moment_and_takes_no_second_token(store: RateStore) -> None:
    store.take(ask("a", "b", "c"))
    assert store.take(ask("c", "b")) == [near(120), near(60)]
    assert store.take(ask("c", "b", "d")) == [near(120), near(60), near(180)]


def test_who_comes_back_in_time_runs_before_whoever_is_new(store: RateStore) -> None:
    store.take(ask("a", "b", interval=0.5))
    time.sleep(0.55)  # The moment of "b" comes; that of the next one is far.
    new, waiting = store.take(ask("n", "b", interval=0.5))
    assert waiting == 0.0
    assert new > SOON


def test_moments_of_who_does_not_come_back_are_used_by_others(open_store: Open, request: pytest.FixtureRequest) -> None:
    if "own" in request.node.name:
        pytest.skip("a worker's own buckets have a time of their own for that")
    store = open_store()
    store.take(ask("first", "late", *map(str, range(100)), interval=0.3))
    time.sleep(0.3 + OVERDUE + 0.05)
    assert store.take(ask("new", interval=0.3)) == [0.0]
    assert store.take(ask("late", interval=0.3))[0] > 20, "who was late stands in line anew"


def test_a_token_is_taken_for_each_run_of_a_task(store: RateStore) -> None:
    assert store.take(ask("a")) == [0.0]
    assert store.take(ask("a")) == [near(60)]


def test_buckets_do_not_know_each_other(store: RateStore) -> None:
    assert store.take(ask("a") + ask("b", bucket="other") + ask("c", bucket="third", interval=1.0)) == [0.0, 0.0, 0.0]
    assert store.take(ask("d", bucket="other") + ask("e")) == [near(60), near(60)]


def test_names_may_contain_anything(store: RateStore) -> None:
    for name in ("ünï:{code}", "a b\n'c'\"", "%s %(x)s ?", "x" * 240):
        assert store.take(ask("task id '%s", "b", bucket=name)) == [0.0, near(60)]


def test_unused_tokens_are_not_saved_up(store: RateStore) -> None:
    store.take(ask("a", interval=0.05))
    time.sleep(0.4)  # Time for eight of them.
    waits = store.take(ask("b", "c", "d", interval=0.05))
    assert waits[0] == 0.0
    assert waits[1:] == pytest.approx([0.05, 0.1], abs=0.02)


def test_a_raised_limit_holds_for_those_who_are_new(store: RateStore) -> None:
    store.take(ask("a", "b", "c", interval=60.0))
    (wait,) = store.take(ask("d", interval=6.0))
    assert wait == pytest.approx(18, abs=2)


def test_a_lowered_limit_holds_for_those_who_are_new(store: RateStore) -> None:
    store.take(ask("a", "b", interval=6.0))
    (wait,) = store.take(ask("c", interval=60.0))
    assert wait == pytest.approx(115, abs=6)


def test_nothing_asked_is_nothing_answered(store: RateStore) -> None:
    assert store.take([]) == []


def test_two_workers_share_a_bucket(open_store: Open) -> None:
    one, other = open_store(), open_store()
    assert one.take(ask("a")) == [0.0]
    assert other.take(ask("b")) == [near(60)]
    assert one.take(ask("b", "c")) == [near(60), near(120)]


def test_threads_and_workers_at_once_are_given_different_moments(open_store: Open) -> None:
    stores = [open_store(), open_store()]
    waits: list[float] = []

    def work(number: int) -> None:
        for batch in range(5):
            names = [f"{number}-{batch}-{n}" for n in range(20)]
            waits.extend(stores[number % 2].take(ask(*names) + ask(*names, bucket="other")))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(waits) == 800
    assert waits.count(0.0) == 2
    moments = sorted(waits)[2:]
    assert [round((moment + 4) / 60) for moment in moments] == [n for n in range(1, 400) for _ in range(2)]
