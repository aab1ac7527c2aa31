"""Pains of Celery's users, by their numbers in docs/reference/pains.md, as far as they need a worker of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from chaos.conftest import SERVERS, Place
from chaos.scene import MANY_CRASHES
from conformance.waiting import assert_prompt, timed
from proxy import TCPProxy
from umbel import Umbel
from umbel.errors import PublishTimeout
from workers import wait_for

LEASES = ["sqlite", "redis", "postgresql"]
VERY_SHORT_LEASE = {"UMBEL_WORKER_LEASE": "0.6", "UMBEL_WORKER_LEASE_RENEWAL": "0.1"}


@pytest.mark.timed(0.2)
@pytest.mark.parametrize("system", ["sqlite", "redis"], indirect=True)
def test_pain_1_a_task_that_is_long_or_delayed_runs_once(place: Place) -> None:
    """Both for several leases, with an idle worker waiting for them."""
    with place.scene(VERY_SHORT_LEASE) as scene:
        scene.start()
        scene.start()
        long = scene.tasks.record.delay(1.8)
        delayed = scene.tasks.record.apply_async(countdown=1.5)
        assert long.get(timeout=10) == long.id
        assert delayed.get(timeout=10) == delayed.id
        wait_for(scene.is_settled, 5)
        assert scene.ledger.begun() == {long.id: 1, delayed.id: 1}


@pytest.mark.parametrize("system", ["redis"], indirect=True)
def test_pain_6_an_executor_that_dies_wedges_nobody(place: Place) -> None:
    with place.scene(MANY_CRASHES) as scene:
        worker = scene.start()
        victim = scene.tasks.record.delay(60.0)
        for death in range(1, 4):
            wait_for(lambda death=death: scene.ledger.begun()[victim.id] == death, 10, "it runs")
            assert scene.tasks.add.delay(1, 1).get(timeout=5) == 2
            os.kill(
                next(entry.pid for entry in reversed(scene.ledger.entries()) if entry.id == victim.id), signal.SIGKILL
            )
            assert [scene.tasks.add.delay(n, 1).get(timeout=5) for n in range(5)] == [1, 2, 3, 4, 5]
        wait_for(lambda: len(worker.executors()) == 2, 10, "both are replaced")


@pytest.mark.parametrize("system", LEASES, indirect=True)
def test_pain_7_delayed_tasks_are_not_held_by_workers(place: Place) -> None:
    with place.scene() as scene:
        scene.start()
        far = [scene.tasks.record.s(0.0).set(countdown=3600) for _ in range(2000)]
        scene.tasks.app.send_many(far)

        def add() -> None:
            assert scene.tasks.add.delay(1, 1).get(timeout=5) == 2

        assert_prompt(1.0, lambda: timed(add))
        size = scene.broker.size("celery")
        assert (size.ready, size.held, size.delayed) == (0, 0, 2000)


def fail_to_send(app: Umbel) -> None:
    with pytest.raises(PublishTimeout):
        app.send_task("anything")


@pytest.mark.parametrize("system", SERVERS, indirect=True)
@pytest.mark.parametrize("how", ["refuses", "is silent"])
def test_pain_19_delay_fails_within_its_deadline_when_the_broker_is_down(
    place: Place, how: str, proxies: Callable[[str], TCPProxy]
) -> None:
    proxy = proxies(place.broker)
    with Umbel("pain19", broker=proxy.url(place.broker), backend="disabled://", publish_timeout=1.0) as app:
        app.send_task("anything")
        proxy.refuse() if how == "refuses" else proxy.blackhole()
        if how == "refuses":
            proxy.cut()
        for _ in range(2):
            assert_prompt(1.5, lambda: timed(lambda: fail_to_send(app)))
        proxy.heal()
        app.send_task("anything")


@pytest.mark.parametrize("system", SERVERS, indirect=True)
def test_pain_19_also_when_it_was_never_reached(place: Place) -> None:
    nobody = urlsplit(place.broker)._replace(netloc="127.0.0.1:1").geturl()
    with Umbel("pain19", broker=nobody, backend="disabled://", publish_timeout=0.5) as app:
        assert_prompt(1.0, lambda: timed(lambda: fail_to_send(app)))


@pytest.mark.parametrize("system", LEASES, indirect=True)
def test_pain_21_what_is_queued_is_told_from_what_was_never_sent(place: Place) -> None:
    with place.scene() as scene:
        add, record = scene.tasks.add, scene.tasks.record
        queued, delayed = add.delay(1, 1), add.apply_async((1, 1), countdown=3600)
        running, settled_early = record.delay(60.0), scene.tasks.record_at_most_once.delay(1.0)
        strange = scene.tasks.app.send_task("nobody.knows")
        never = scene.tasks.app.AsyncResult("never-sent")
        results = (queued, delayed, running, strange, never)
        assert {result.state for result in results} == {"PENDING"}
        assert [result.whereabouts() for result in results] == ["ready", "delayed", "ready", "ready", "unknown"]
        scene.start()
        assert settled_early.get(timeout=15) == settled_early.id
        wait_for(lambda: strange.whereabouts() == "parked", 10, "the unknown task is parked")
        wait_for(lambda: running.id in scene.ledger.begun(), 10, "it runs")
        assert [result.whereabouts() for result in results] == ["ended", "delayed", "held", "parked", "unknown"]
