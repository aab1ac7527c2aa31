"""Unique keys: one task has each at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from umbel.limits.holds_store import ANY, Claim, HoldStore
from workers import wait_for


def test_the_first_has_the_key_and_the_others_are_told_who(store: HoldStore, other: HoldStore) -> None:
    assert store.claim([Claim("k", "a", 60), Claim("l", "b", 60)]) == ["a", "b"]
    assert other.claim([Claim("k", "c", 60), Claim("m", "c", 60)]) == ["a", "c"]
    assert store.claim([Claim("k", "a", 60)]) == ["a"]


def test_one_batch_may_ask_for_a_key_twice(store: HoldStore) -> None:
    assert store.claim([Claim("z", "a", 60), Claim("k", "b", 60), Claim("z", "c", 60)]) == ["a", "b", "a"]


def test_only_the_owner_frees_a_key(store: HoldStore, other: HoldStore) -> None:
    store.claim([Claim("k", "a", 60)])
    other.unclaim([("k", "b"), ("none", "a")])
    assert other.claim([Claim("k", "b", 60)]) == ["a"]
    store.unclaim([("k", "a")])
    assert other.claim([Claim("k", "b", 60)]) == ["b"]


def test_a_key_is_taken_only_from_whom_it_may_be_taken(store: HoldStore) -> None:
    store.claim([Claim("k", "a", 60)])
    assert store.claim([Claim("k", "b", 60, "c")]) == ["a"]
    assert store.claim([Claim("k", "b", 60, "a")]) == ["b"]
    assert store.claim([Claim("k", "c", 60, ANY)]) == ["c"]
    assert store.claim([Claim("k", "b", 60)]) == ["c"]


def test_a_claim_ends_with_its_ttl_and_begins_anew_when_repeated(store: HoldStore) -> None:
    store.claim([Claim("k", "a", 0.3), Claim("l", "a", 0.3)])
    store.claim([Claim("l", "a", 60)])
    assert store.claim([Claim("k", "b", 60)]) == ["a"]
    wait_for(lambda: store.claim([Claim("k", "b", 60)]) == ["b"])
    assert store.claim([Claim("l", "b", 60)]) == ["a"]


def test_of_many_at_once_one_gets_the_key(store: HoldStore) -> None:
    def ask(number: int) -> str:
        return store.claim([Claim("k", f"t{number}", 60), Claim(f"k{number % 3}", f"t{number}", 60)])[0]

    with ThreadPoolExecutor(8) as threads:
        answers = set(threads.map(ask, range(40)))
    assert len(answers) == 1


def test_what_has_run_out_is_removed(store: HoldStore) -> None:
    store.claim([Claim("k", "a", 0.05), Claim("l", "a", 60)])
    wait_for(lambda: store.claim([Claim("k", "b", 0.05)]) == ["b"])
    store.tidy()
    assert store.claim([Claim("l", "b", 60)]) == ["a"]
