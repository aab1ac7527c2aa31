"""Tasks that kill what runs them: a few processes die, then the task is set aside; its neighbours are not affected."""

from __future__ import annotations

import pytest

from chaos.conftest import Place
from chaos.scene import SHORT_LEASE, Scene
from umbel.errors import WorkerLostError
from workers import wait_for


def assert_dead(scene: Scene, task_id: str, *reason: str) -> None:
    """Dead-lettered with that in the reason, and its result says so."""
    letters = {letter.message.id: letter for letter in scene.broker.dead_letters("celery")}
    assert task_id in letters
    for words in reason:
        assert words in letters[task_id].reason
    result = scene.tasks.misbehave.AsyncResult(task_id)
    with pytest.raises(WorkerLostError):
        result.get(timeout=5)
    assert result.state == "FAILURE"


@pytest.mark.parametrize(
    ("how", "reason"), [("kill", "SIGKILL"), ("segfault", "SIGSEGV"), ("_exit", "exited with code 3")]
)
@pytest.mark.parametrize("system", ["redis"], indirect=True)
def test_each_way_to_die_is_named(place: Place, how: str, reason: str) -> None:
    """Pain 17: a poison task kills worker after worker."""
    with place.scene() as scene:
        scene.start()
        poison = scene.tasks.misbehave.delay(how)
        wait_for(lambda: scene.broker.dead_letters("celery"), 10, "the poison is set aside")
        assert scene.ledger.begun()[poison.id] == 3
        assert_dead(scene, poison.id, reason, "3 times")


@pytest.mark.parametrize("system", ["sqlite", "redis", "postgresql", "rabbitmq"], indirect=True)
def test_neighbours_of_a_poison_are_neither_lost_nor_doubled(place: Place) -> None:
    """Pain 17, on every broker: the count of crashes is the broker's."""
    with place.scene({"UMBEL_WORKER_CRASH_LIMIT": "2"}) as scene:
        scene.start()
        scene.load.send_bulk(60)
        poisons = [scene.tasks.misbehave.delay("kill").id for _ in range(2)]
        scene.load.send_bulk(60)
        scene.await_all()
        wait_for(lambda: len(scene.broker.dead_letters("celery")) == 2, 10, "the poisons are set aside")
        for poison in poisons:
            assert scene.ledger.begun()[poison] == 2
            assert_dead(scene, poison, "SIGKILL")
        assert scene.doubled() == set(poisons)


@pytest.mark.parametrize("system", ["sqlite", "redis", "rabbitmq"], indirect=True)
def test_a_poison_that_kills_the_whole_worker_is_set_aside_by_the_count_of_deliveries(place: Place) -> None:
    """Pain 17: nobody lives to report the crash, so each lease that ran out counts."""
    limits = {"UMBEL_WORKER_LEASE": "0.5", "UMBEL_WORKER_LEASE_RENEWAL": "0.1", "UMBEL_WORKER_DELIVERY_LIMIT": "2"}
    with place.scene(SHORT_LEASE | limits) as scene:
        poison = scene.tasks.misbehave.delay("kill the worker").id
        worker = scene.start(ready=False)
        for deaths in range(1, 5):
            wait_for(lambda worker=worker: worker.process.poll() is not None or is_dead(scene, poison), 10)
            if is_dead(scene, poison):
                break
            assert scene.ledger.begun()[poison] == deaths
            worker = scene.start(ready=False)
        assert_dead(scene, poison, "delivered")
        assert scene.ledger.begun()[poison] in (2, 3)
        scene.load.send_bulk(20)
        wait_for(lambda: set(scene.load.accepted) <= scene.ledger.ended().keys(), 10, "others run")
        assert worker.process.poll() is None


def is_dead(scene: Scene, task_id: str) -> bool:
    return any(letter.message.id == task_id for letter in scene.broker.dead_letters("celery"))
