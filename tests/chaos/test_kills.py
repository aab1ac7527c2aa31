"""SIGKILL of executors, supervisors, nurseries and whole workers: nothing is lost, and hardly anything runs twice."""

from __future__ import annotations

import signal
import time

import pytest

from chaos.conftest import SERVERS, Place
from chaos.scene import LEASE, MANY_CRASHES, SHORT_LEASE, Scene, takeover
from processes import still_running
from workers import WorkerProcess, wait_for

SLACK = 1.5
UNREPORTED = 1.0
"""Seconds before its worker's death within which an ended task may not have been acknowledged yet."""


@pytest.mark.parametrize("system", ["sqlite", "redis", "postgresql", "rabbitmq"], indirect=True)
def test_executors_killed_again_and_again(place: Place) -> None:
    """Pain 3: tasks are lost when a worker dies. Pain 6: a killed child wedges all others."""
    with place.scene(MANY_CRASHES) as scene:
        worker = scene.start()
        scene.load.send_bulk(150)
        allowed: set[str] = set()
        with scene.load.trickle():
            for _ in range(10):
                scene.await_ended(scene.dice.randrange(5, 15))
                wait_for(lambda: len(worker.executors()) == 2, 5, "a successor")
                victim = scene.dice.choice(worker.executors())
                victim.kill()
                moment = time.time()
                still_running([victim])
                allowed |= scene.ledger.in_doubt({victim.pid}, moment, unreported=0.05)
        scene.await_all()
        assert scene.doubled(), "no kill met a running task"
        scene.assert_only_doubled(allowed)


def kill(worker: WorkerProcess, how: str) -> float:
    """Returns when all of it was gone: Unix time."""
    tree = worker.tree()
    if how == "supervisor":
        worker.process.kill()
        alive = still_running(tree, timeout=3)
        worker.process.wait(3)
        assert not alive, f"they outlived their supervisor: {alive}"
    else:
        worker.kill()
    return time.time()


def kill_under_load(scene: Scene, how: str, successor: str, lease: float) -> None:
    victim = scene.start()
    if successor == "lives on":
        scene.start()
    scene.load.send_bulk(160)
    with scene.load.trickle():
        scene.await_ended(50)
        pids = victim.executor_pids()
        moment = time.time()
        kill(victim, how)
        unended = scene.ledger.in_doubt(pids, time.time())
        allowed = scene.ledger.in_doubt(pids, moment, UNREPORTED)
    if successor == "is started":
        scene.start()
        moment = time.time()
    assert unended, "no task was running"
    wait_for(lambda: unended <= {e.id for e in scene.ledger.entries() if e.pid not in pids}, lease + 10)
    taken_over = takeover(scene.ledger, unended, pids, moment)
    print(f"taken over after {taken_over:.2f} s")
    assert taken_over <= lease + SLACK
    scene.await_all()
    assert time.time() - moment <= lease + SLACK + 5.0
    scene.assert_only_doubled(allowed)


@pytest.mark.parametrize("system", SERVERS, indirect=True)
def test_a_supervisor_killed_under_load(place: Place) -> None:
    """Pain 3: tasks are lost when a worker dies."""
    with place.scene(SHORT_LEASE) as scene:
        kill_under_load(scene, "supervisor", "lives on", LEASE)


def test_a_whole_worker_killed_under_load(place: Place) -> None:
    """Pain 3: tasks are lost when a worker dies."""
    with place.scene(SHORT_LEASE) as scene:
        kill_under_load(scene, "tree", "is started", LEASE)


@pytest.mark.parametrize("system", ["redis"], indirect=True)
def test_a_worker_killed_under_load_with_the_default_lease(place: Place) -> None:
    with place.scene() as scene:
        kill_under_load(scene, "tree", "lives on", lease=5.0)


@pytest.mark.parametrize("system", ["sqlite", "redis", "rabbitmq"], indirect=True)
def test_a_killed_nursery_ends_the_worker_which_gives_back_what_it_held(place: Place) -> None:
    """Pain 6: prefork dead-locks. Without its nursery a worker could start no executor any more."""
    with place.scene(SHORT_LEASE) as scene:
        worker = scene.start()
        scene.load.send_bulk(100)
        scene.await_ended(20)
        pids = worker.executor_pids()
        moment = time.time()
        worker.nursery().send_signal(signal.SIGKILL)
        assert worker.process.wait(5) != 0
        assert time.time() - moment < 3
        allowed = scene.ledger.in_doubt(pids, moment, unreported=0.05)
        held = scene.broker.size("celery").held
        assert held <= 0, "it gave everything back"
        scene.start()
        scene.await_all()
        scene.assert_only_doubled(allowed)
