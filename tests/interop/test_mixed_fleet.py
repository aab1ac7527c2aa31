"""Workers of both kinds on one queue."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.rig import TIMEOUT, Rig, rig
from workers import wait_for

COUNT = 500


@pytest.fixture(params=["redis", "rabbitmq"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """A broker for one test, without workers yet."""
    with rig(request.param, tmp_path) as made:
        yield made


def test_both_kinds_share_the_work_and_each_task_runs_once(both: Rig) -> None:
    ids = set(both.celery_client().ask("count", number=COUNT // 2)["ids"])
    app = both.umbel_client()
    ids |= {app.tasks["shared.add"].delay(number, 1).id for number in range(COUNT // 2)}
    both.celery_worker()
    both.umbel_worker("--prefetch-multiplier", "1")
    assert len(ids) == COUNT

    def done() -> set[str]:
        return {noted for _, noted in both.runs()}

    wait_for(lambda: done() >= ids, 60, f"{COUNT} tasks")
    more = [app.tasks["shared.wait"].delay(0.1).id for _ in range(40)]
    wait_for(lambda: done() >= set(more), 30, "tasks that both run at the same time")
    runs = [(kind, noted) for kind, noted in both.runs() if noted in ids or noted in more]
    assert len(runs) == COUNT + len(more)
    assert {kind for kind, noted in runs if noted in more} == {"celery", "umbel"}
    for task_id in more:
        assert app.AsyncResult(task_id).get(timeout=TIMEOUT) == task_id


def test_a_delayed_task_in_a_mixed_fleet_runs_once_wherever_it_is(both: Rig) -> None:
    both.celery_worker()
    both.umbel_worker()
    app = both.umbel_client()
    client = both.celery_client()
    started = time.time()
    results = [app.tasks["shared.add"].apply_async((number, 1), countdown=1.5) for number in range(10)]
    sent = [client.send("shared.add", [number, 1], countdown=1.5) for number in range(10)]
    assert [result.get(timeout=TIMEOUT) for result in results] == list(range(1, 11))
    assert [client.value(task_id) for task_id in sent] == list(range(1, 11))
    assert time.time() - started > 1.3
    for task_id in [result.id for result in results] + sent:
        assert both.runs_of(task_id).total() == 1


def test_what_a_dead_umbel_worker_held_goes_to_celery(both: Rig) -> None:
    client = both.celery_client()
    doomed = both.umbel_worker("--prefetch-multiplier", "10")
    ids = [client.send("shared.wait", [6.0])] + [client.send("shared.add", [number, 1]) for number in range(8)]
    app = both.umbel_client()
    wait_for(lambda: app.broker.size("celery").ready <= 4, TIMEOUT, "the Umbel worker holds half of its window")
    doomed.kill()
    both.celery_worker()
    both.umbel_worker("-Q", "nothing")
    killed = time.monotonic()
    for task_id in ids[1:]:
        client.value(task_id)
    assert time.monotonic() - killed < 40
    assert {task_id: dict(both.runs_of(task_id)) for task_id in ids[1:]} == {
        task_id: {"celery": 1} for task_id in ids[1:]
    }
