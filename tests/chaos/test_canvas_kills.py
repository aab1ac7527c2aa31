"""Chords and chains while executors, supervisors and whole workers are killed at random: all of it runs, and once.

``UMBEL_TEST_FULL=1`` (``make chaos``): 200 chords of 20 and 50 chains of 50.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from chaos.conftest import Place
from chaos.scene import FULL, MANY_CRASHES, SHORT_LEASE, Scene
from chaos.test_canvas_fault_points import canvases_of
from processes import still_running
from umbel import chain, chord
from workers import WorkerProcess, wait_for

CHORDS, MEMBERS, CHAINS, LINKS, KILLS = (200, 20, 50, 50, 40) if FULL else (16, 8, 6, 15, 4)
UNREPORTED = 1.0
"""Seconds before its worker's death within which an ended task may not have been acknowledged yet."""

pytestmark = pytest.mark.timeout(900 if FULL else 180)


@pytest.mark.parametrize("system", ["redis", "sqlite", "postgresql", "rabbitmq"], indirect=True)
def test_canvases_while_workers_are_killed(place: Place) -> None:
    """Pain 10: chords never fire."""
    with place.scene(MANY_CRASHES | SHORT_LEASE) as scene:
        canvases = canvases_of(scene)
        chords = [
            chord([canvases.member.s(n, scene.load.duration() / 2) for n in range(MEMBERS)], canvases.body.s())
            for _ in range(CHORDS)
        ]
        chains = [chain(canvases.link.s(0), *[canvases.link.s() for _ in range(LINKS - 1)]) for _ in range(CHAINS)]
        workers = [start(scene), start(scene)]
        sent = [canvas.apply_async() for canvas in (*chains, *chords)]
        allowed = kill_at_random(scene, workers, sent)
        values = [result.get(timeout=120 if FULL else 60) for result in sent]
        assert values == [LINKS] * CHAINS + [sum(range(MEMBERS))] * CHORDS
        assert_only_doubled(scene, sent, allowed, exactly=place.system != "rabbitmq")


def start(scene: Scene) -> WorkerProcess:
    return scene.start(app="apps.canvases")


def kill_at_random(scene: Scene, workers: list[WorkerProcess], sent: list[Any]) -> set[str]:
    """Kill, one after the other, and put a new worker in the place of each that is gone. Returns the tasks that may
    have been cut short by that."""
    allowed: set[str] = set()
    total = CHORDS * (MEMBERS + 1) + CHAINS * LINKS
    for _ in range(KILLS):
        goal = min(sum(scene.ledger.ended().values()) + total // (KILLS + 4), total - 20)
        wait_for(lambda goal=goal: sum(scene.ledger.ended().values()) >= goal, 60, "work goes on")
        victim = scene.dice.choice(workers)
        how = scene.dice.choice(["executor", "supervisor", "tree"])
        moment = time.time()
        pids = kill(scene, victim, how)
        allowed |= scene.ledger.in_doubt(pids, moment, unreported=UNREPORTED)
        if victim.process.poll() is not None:
            workers[workers.index(victim)] = start(scene)
    return allowed


def kill(scene: Scene, worker: WorkerProcess, how: str) -> set[int]:
    """The processes that ran tasks and are gone."""
    executors = wait_for(worker.executors, 10, "its executors")
    if how == "executor":
        victim = scene.dice.choice(executors)
        victim.kill()
        still_running([victim])
        return {victim.pid}
    tree = worker.tree()
    if how == "tree":
        worker.kill()
    else:
        worker.send_signal(signal.SIGKILL)
        worker.process.wait(5)
    alive = still_running(tree)
    assert not alive, f"they outlived their supervisor: {alive}"
    return {process.pid for process in executors}


def assert_only_doubled(scene: Scene, sent: list[Any], allowed: set[str], *, exactly: bool) -> None:
    """Every task was begun, and none twice whose own worker had not died while it ran it or had not yet said that it
    had ended. Where messages and results are in two systems (not ``exactly``), what it sends may be sent twice."""
    begun = scene.ledger.begun()
    expected = {task_id for result in sent for task_id in ids_of(result)}
    assert begun.keys() == expected
    doubled = {task_id for task_id, count in begun.items() if count > 1}
    if not exactly:
        allowed = allowed | {task_id for result in sent for task_id in after(result, doubled & allowed)}
        allowed |= {result.id for result in sent}
    print(f"{len(expected)} tasks, {len(doubled)} doubled; allowed: {len(allowed)}")
    wrong = doubled - allowed
    lines = [entry for entry in scene.ledger.entries() if entry.id in wrong]
    assert not wrong, f"{len(wrong)} ran twice without need: {lines[:12]}"
    assert scene.broker.dead_letters("celery") == []


def ids_of(result: Any) -> Iterator[str]:
    """Of a chord its body and members, of a chain all links, last first."""
    yield result.id
    while (result := result.parent) is not None:
        yield from [member.id for member in result.results] if hasattr(result, "results") else [result.id]


def after(result: Any, doubled: set[str]) -> list[str]:
    """Links behind the first of these in a chain."""
    links = list(reversed(list(ids_of(result))))
    first = next((at for at, link in enumerate(links) if link in doubled), len(links))
    return links[first:]
