"""Chains, groups and chords through real workers, on every system."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import pytest

from umbel import chain, chord, group
from umbel.errors import ChordError, WorkerLostError
from workers import Fleet, wait_for

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def canvases(tasks: ModuleType) -> ModuleType:
    module = importlib.import_module("apps.canvases")
    tasks.app.set_current()
    return module


def start(workers: Fleet, *arguments: str, count: int = 1) -> None:
    for number in range(count):
        workers.start("-c", "2", "-n", f"w{number}", *arguments, app="apps.canvases")


def test_every_shape_runs_with_its_results_in_order(workers: Fleet, canvases: ModuleType) -> None:
    start(workers)
    plus, total, same = canvases.plus, canvases.total, canvases.same
    inner = chord([plus.s(1, 1), plus.s(2, 2)], total.s())
    shapes: list[tuple[Any, Any]] = [
        (plus.s(1, 2) | plus.s(3) | plus.s(4), 10),
        (group(plus.s(i, i) for i in range(20)), [2 * i for i in range(20)]),
        (chord([plus.s(i, i) for i in range(20)], same.s()), [2 * i for i in range(20)]),
        (group(plus.s(1, 1), plus.s(2, 2)) | total.s() | plus.s(10), 16),
        (plus.s(1, 1) | group(plus.s(1), plus.s(2)) | total.s() | group(plus.s(1), plus.s(5)), [8, 12]),
        (chord([plus.s(1, 1) | plus.s(1), inner, group(plus.s(7, 7), plus.s(8, 8))], same.s()), [3, 6, 14, 16]),
        (chord([plus.s(1, 1) | group(plus.s(1), plus.s(2)), plus.s(5, 5)], same.s()), [[3, 4], 10]),
        (chord([], same.s()), []),
        (chord([plus.s(1, 1)], same.s()), [2]),
        (plus.chunks([(i, i) for i in range(5)], 2), [[0, 2], [4, 6], [8]]),
        (same.map([1, 2, 3]), [1, 2, 3]),
        (plus.starmap([(1, 2), (3, 4)]), [3, 7]),
        (chord(plus.chunks([(1, 1), (2, 2)], 1), same.s()), [[2], [4]]),
    ]
    sent = [(shape.apply_async(), expected) for shape, expected in shapes]
    for (result, expected), (shape, _) in zip(sent, shapes, strict=True):
        assert result.get(timeout=60) == expected, repr(shape)


def test_six_chords_in_each_other(workers: Fleet, canvases: ModuleType) -> None:
    start(workers)
    plus, total = canvases.plus, canvases.total
    in_headers: Any = plus.s(0, 1)
    for _ in range(6):
        in_headers = chord([in_headers, *(plus.s(0, 1) for _ in range(9))], total.s())
    in_bodies: Any = total.s()
    for _ in range(6):
        in_bodies = chord([canvases.same.si(1) for _ in range(10)], in_bodies) | canvases.same.s()
        in_bodies = canvases.total.s() | in_bodies
    results = [in_headers.apply_async(), in_bodies.apply_async(([1, 2],))]
    assert results[0].get(timeout=90) == 55
    assert results[1].get(timeout=90) == 10


def test_a_failed_member_fails_body_and_calls_errbacks(workers: Fleet, canvases: ModuleType) -> None:
    start(workers)
    failing = canvases.total.s().on_error(canvases.note_failure.s()).on_error(canvases.note_error.s())
    result = chord([canvases.plus.s(1, 1), canvases.boom.si(), canvases.plus.s(2, 2)], failing).apply_async()
    outer = chord(
        [canvases.plus.s(1, 1) | canvases.boom.s() | canvases.plus.s(1), canvases.plus.s(1, 1)],
        canvases.total.s() | canvases.plus.s(1),
    ).apply_async()
    with pytest.raises(ChordError, match="raised ValueError"):
        result.get(timeout=60)
    with pytest.raises(ChordError, match="raised ValueError"):
        outer.get(timeout=60)
    expected = {f"errback-of-{result.id}", f"error-ChordError-of-{result.id}"}
    wait_for(lambda: expected <= set(workers.ledger.begun()), 20, "both errbacks")


def test_a_member_whose_process_dies_is_run_again_and_the_body_once(workers: Fleet, canvases: ModuleType) -> None:
    start(workers)
    members = [canvases.member.s(1), canvases.crash_once.s(2), canvases.member.s(3)]
    result = chord(members, canvases.body.s()).apply_async()
    assert result.get(timeout=60) == 6
    assert workers.ledger.begun()[result.id] == 1


def test_a_member_that_always_kills_its_process_fails_the_body(workers: Fleet, canvases: ModuleType) -> None:
    start(workers)
    result = chord([canvases.member.s(1), canvases.always_crashes.s(2)], canvases.body.s()).apply_async()
    with pytest.raises(ChordError, match=WorkerLostError.__name__):
        result.get(timeout=60)
    assert workers.ledger.begun()[result.id] == 0


def test_replaced_and_added_members(workers: Fleet, canvases: ModuleType) -> None:
    start(workers)
    plus, total, same = canvases.plus, canvases.total, canvases.same
    results = [
        (canvases.fan_out.s(5).apply_async(), 20),
        ((canvases.fan_out.s(5) | plus.s(1)).apply_async(), 21),
        (chord([canvases.fan_out.s(5), plus.s(1, 1)], same.s()).apply_async(), [20, 2]),
        (canvases.become.s(group(plus.s(1, 1), plus.s(2, 2))).apply_async(), [2, 4]),
        (canvases.become.s(plus.s(1, 1) | plus.s(5)).apply_async(), 7),
        (chord([canvases.add_more.s([5, 6]), canvases.member.s(7)], total.s()).apply_async(), 18),
    ]
    for result, expected in results:
        assert result.get(timeout=60) == expected


def test_a_long_chain_and_a_large_chord(workers: Fleet, canvases: ModuleType) -> None:
    start(workers)
    long = chain([canvases.same.s(0), *(canvases.plus.s(1) for _ in range(400))]).apply_async()
    large = chord((canvases.plus.s(i, 0) for i in range(1500)), canvases.total.s()).apply_async()
    assert long.get(timeout=90) == 400
    assert large.get(timeout=90) == sum(range(1500))


def test_workers_are_killed_while_chords_and_chains_run(workers: Fleet, canvases: ModuleType) -> None:
    """Every body runs, and none twice unless the worker that ran it was killed."""
    start(workers, count=2)
    chords = [
        chord([canvases.member.s(i, 0.02) for i in range(20)], canvases.body.s()).apply_async() for _ in range(50)
    ]
    chains = [chain([canvases.link.s(0), *(canvases.link.s() for _ in range(29))]).apply_async() for _ in range(10)]
    killed: set[int] = set()
    for number in range(3):
        goal = 200 * (number + 1)
        wait_for(lambda goal=goal: len(workers.ledger.begun()) >= goal, 60, "progress")
        victim = workers.workers[number]
        killed |= {process.pid for process in victim.tree()}
        victim.kill()
        workers.start("-c", "2", "-n", f"again{number}", app="apps.canvases")
    for result in chords:
        assert result.get(timeout=90) == sum(range(20))
    for result in chains:
        assert result.get(timeout=90) == 30
    begun_by_killed = {entry.id for entry in workers.ledger.entries() if entry.pid in killed}
    begun = workers.ledger.begun()
    assert {result.id for result in chords if begun[result.id] != 1} <= begun_by_killed
