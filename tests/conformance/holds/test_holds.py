"""Holds: at most so many at a time, given up or run out; and the line of those that wait."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor

from umbel.limits.holds_line import LATE, LONGEST, SHORTEST
from umbel.limits.holds_store import Hold, HoldStore, Wish
from workers import wait_for

TTL = 60.0


def wishes(*tokens: str, key: str = "k", limit: int = 2) -> list[Wish]:
    return [Wish(key, limit, token, f"task-{token}") for token in tokens]


def test_as_many_as_the_limit_are_let_in(store: HoldStore, other: HoldStore) -> None:
    first = store.acquire(wishes("a", "b", "c"), TTL)
    assert first[:2] == [0.0, 0.0]
    assert first[2] >= SHORTEST
    assert all(other.acquire(wishes("d", "e"), TTL))
    assert other.acquire(wishes("d", "e", key="l"), TTL) == [0.0, 0.0]


def test_the_order_of_keys_in_a_batch_does_not_matter(store: HoldStore) -> None:
    batch = [*wishes("a", key="z"), *wishes("b", key="k"), *wishes("c", "d", key="z")]
    assert [pause == 0 for pause in store.acquire(batch, TTL)] == [True, True, True, False]


def test_a_place_given_up_is_for_who_comes_back(store: HoldStore, other: HoldStore) -> None:
    store.acquire(wishes("a", "b", "c"), TTL)
    store.release([(Hold("k", "a"), 0.1), (Hold("k", "nobody"), 0.1)])
    assert other.acquire(wishes("c"), TTL) == [0.0]
    assert all(other.acquire(wishes("d"), TTL))


def test_a_hold_ends_with_its_ttl_unless_renewed(store: HoldStore, other: HoldStore) -> None:
    other.tidy()  # which opens it
    store.acquire(wishes("a", "b"), 1.5)
    assert store.renew([Hold("k", "a")], TTL) == []
    assert all(other.acquire(wishes("c"), TTL))
    wait_for(lambda: other.acquire(wishes("c"), TTL) == [0.0])
    assert all(other.acquire(wishes("d"), TTL))
    assert store.renew([Hold("k", "a"), Hold("k", "b")], TTL) == [Hold("k", "b")]


def test_a_hold_given_up_is_not_renewed_back(store: HoldStore) -> None:
    store.acquire(wishes("a", "b"), TTL)
    store.release([(Hold("k", "a"), 0.1)])
    assert store.renew([Hold("k", "a")], TTL) == [Hold("k", "a")]
    assert store.acquire(wishes("c"), TTL) == [0.0]


def test_a_lost_hold_can_be_put_back_over_the_limit(store: HoldStore) -> None:
    store.acquire(wishes("a", "b"), TTL)
    store.restore([Hold("k", "lost"), Hold("k", "a")], TTL)
    store.release([(Hold("k", "a"), 0.1)])
    assert all(store.acquire(wishes("c"), TTL)), "two are held still"
    store.release([(Hold("k", "lost"), 0.1)])
    assert store.acquire(wishes("c"), TTL) == [0.0]


def test_who_cannot_run_only_gets_a_place_in_the_line(store: HoldStore) -> None:
    """Kept until its owner is late, and from the first moment on: by a clock of milliseconds both come at once."""
    proven = 0
    for key in map(str, range(30)):
        began = time.monotonic()
        (pause,) = store.acquire([Wish(key, 1, "a", "task-a", able=False)], TTL)
        (other,) = store.acquire(wishes("new", key=key, limit=1), TTL)
        if time.monotonic() - began > LATE:  # it may have been late
            continue
        assert pause >= SHORTEST
        assert other, "the place is kept for the one that comes soon"
        assert store.acquire(wishes("a", key=key, limit=1), TTL) == [0.0]
        proven += 1
    assert proven


def test_a_place_is_not_kept_for_who_does_not_come(store: HoldStore) -> None:
    store.acquire([Wish("k", 1, "gone", "task-gone", able=False)], TTL)
    wait_for(lambda: store.acquire(wishes("new", limit=1), TTL) == [0.0])


def test_those_far_behind_come_later_and_the_first_ones_soon(store: HoldStore) -> None:
    store.acquire(wishes("slow", limit=1), TTL)
    store.release([(Hold("k", "slow"), 2.0)])
    names = [f"t{number:03}" for number in range(200)]
    pauses = store.acquire(wishes(*names, limit=1), TTL)
    assert pauses[0] == 0.0
    assert all(0.2 <= pause <= 0.4 for pause in pauses[1:4]), pauses[1:4]
    assert pauses[100] > 50
    assert all(behind >= before for before, behind in itertools.pairwise(pauses[10:]))
    assert max(pauses) <= LONGEST
    again = store.acquire(wishes(names[50], limit=1), TTL)
    assert abs(again[0] - pauses[50]) < 2, "it keeps its place"


def test_never_more_than_the_limit_under_load(store: HoldStore, other: HoldStore) -> None:
    running: set[str] = set()
    most = 0

    def work(name: str) -> None:
        nonlocal most
        which = store if int(name) % 2 else other
        wish = Wish("k", 3, name, name)
        deadline = time.monotonic() + 60
        while pause := which.acquire([wish], TTL)[0]:
            assert time.monotonic() < deadline
            time.sleep(min(pause, 0.05))
        running.add(name)
        most = max(most, len(running))
        time.sleep(0.01)
        running.discard(name)
        which.release([(Hold("k", name), 0.01)])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, map(str, range(60))))
    assert 1 < most <= 3


def test_what_has_run_out_is_removed(store: HoldStore) -> None:
    store.acquire(wishes("a", "b"), 0.05)
    wait_for(lambda: store.renew([Hold("k", "a")], 0.05) or store.acquire(wishes("c", "d", limit=4), TTL)[0] == 0.0)
    store.tidy()
    assert all(store.acquire(wishes("x", "y", limit=2), TTL))
