"""A supervisor that is stopped for longer than its lease, while another worker lives, and then goes on."""

from __future__ import annotations

import signal
import time

import psutil
import pytest

from chaos.conftest import Place
from chaos.scene import LEASE, SHORT_LEASE, Scene, takeover
from freezing import freeze
from workers import wait_for

SLACK = 1.0
HEARTBEAT = 2

pytestmark = pytest.mark.timed(SLACK / 2)


def results(scene: Scene) -> dict[str, int]:
    metas = scene.tasks.app.backend.get(scene.load.accepted)
    return {task_id: meta.result for task_id, meta in metas.items() if meta.status == "SUCCESS"}


def ended_by(scene: Scene, pids: set[int]) -> set[str]:
    return {entry.id for entry in scene.ledger.entries() if entry.event == "end" and entry.pid in pids}


def assert_works_again(scene: Scene, pids: set[int]) -> None:
    """Results of tasks that are sent from now on come from these processes too, and none is missing."""
    before = set(scene.load.accepted)

    def works() -> bool:
        scene.load.send(scene.tasks.record_pid, scene.load.duration())
        return any(pid in pids for task_id, pid in results(scene).items() if task_id not in before)

    wait_for(works, 10, "it works on normally")
    wait_for(lambda: results(scene).keys() == set(scene.load.accepted), 10, "all results are stored")
    wait_for(scene.is_settled, 5)


@pytest.mark.parametrize("system", ["sqlite", "redis", "postgresql", "mariadb"], indirect=True)
def test_a_frozen_supervisor_loses_its_work_and_cannot_overwrite_results(place: Place) -> None:
    """Pain 1: a lease that is a fencing token, so that an owner that lost it can neither settle nor overwrite."""
    with place.scene(SHORT_LEASE) as scene:
        frozen, other = scene.start(), scene.start()
        scene.load.send_bulk(120, scene.tasks.record_pid)
        scene.await_ended(30)
        pids, others = frozen.executor_pids(), other.executor_pids()
        freeze([psutil.Process(frozen.process.pid)], place.broker)
        moment = time.time()
        allowed = scene.ledger.in_doubt(pids, moment, unreported=1.0)
        try:
            lease_over = moment + LEASE + 0.1
            wait_for(lambda: time.time() > lease_over, LEASE + 1)
            wait_for(lambda: len(results(scene)) == 120, SLACK + 3, "the other worker has done everything")
            late = [e for e in scene.ledger.entries() if e.pid in pids and e.event == "begin" and e.at > lease_over]
            assert not late, "its executors began nothing after the lease had ended"
            twice = scene.ledger.in_doubt(pids, moment) & scene.doubled()
            assert takeover(scene.ledger, twice, pids, moment) <= LEASE + SLACK
            stored = results(scene)
            held = [task_id for task_id, pid in stored.items() if pid in others and task_id in ended_by(scene, pids)]
        finally:
            frozen.send_signal(signal.SIGCONT)
        assert held, "the frozen worker has results that it must not store"
        wait_for(lambda: "the lease was lost" in frozen.output(), 5, "it finds out")
        assert_works_again(scene, pids)
        assert {results(scene)[task_id] for task_id in held} <= others, "a stale result was stored"
        in_its_hands = {e.id for e in scene.ledger.entries() if e.pid in pids and e.at > moment}
        scene.assert_only_doubled(allowed | in_its_hands)


@pytest.mark.parametrize("system", ["rabbitmq"], indirect=True)
def test_a_frozen_connection_is_given_up_by_rabbitmq(place: Place) -> None:
    """RabbitMQ's lease is the connection: after two heartbeats without a sign of life it gives its work to others.

    Who wakes up after that must not give the same messages back once more, nor store results of them.
    """
    place.broker += f"?heartbeat={HEARTBEAT}"
    with place.scene() as scene:
        frozen = scene.start()
        scene.load.send_bulk(120, scene.tasks.record_pid)
        scene.await_ended(10)
        pids = frozen.executor_pids()
        frozen.send_signal(signal.SIGSTOP)
        moment = time.time()
        try:
            other = scene.start()
            wait_for(lambda: len(results(scene)) == 120, 20, "the other worker has done everything")
            others = other.executor_pids()
            late = [e for e in scene.ledger.entries() if e.pid in pids and e.event == "begin"]
            late = [entry for entry in late if entry.at > moment + HEARTBEAT + 0.1]
            assert not late, "its executors began nothing when the connection was not proven any more"
            in_its_hands = scene.ledger.in_doubt(pids, moment, unreported=0.5)
            stored = results(scene)
            lost = [task_id for task_id in ended_by(scene, pids) if stored[task_id] in others]
        finally:
            frozen.send_signal(signal.SIGCONT)
        assert lost, "the frozen worker has results that it must not store"
        wait_for(lambda: "the lease was lost" in frozen.output(), 5, "it finds out")
        assert_works_again(scene, pids)
        assert {results(scene)[task_id] for task_id in lost} <= others, "a stale result was stored"
        scene.assert_only_doubled(in_its_hands)
