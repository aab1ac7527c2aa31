"""Canvases in mixed fleets: sent by clients of either kind, run by Umbel's workers, by Celery's, and by both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import umbel
from interop.rig import TIMEOUT, CeleryClient, Rig, rig
from umbel.errors import ChordError
from workers import wait_for

QUEUES = ["for-umbel", "for-celery", "for-both"]

SHAPES: list[tuple[Any, Any]] = [
    ({"chain": [["add", 1, 1], ["add", 1], ["add", 1]]}, 4),
    ({"chord": [["add", n, n] for n in range(10)], "body": ["total"]}, 90),
    ({"chain": [{"group": [["add", 1, 1], ["add", 2, 2]]}, ["total"], ["add", 1]]}, 7),
    ({"chord": [{"chain": [["add", 1, 1], ["add", 1]]}, ["add", 1, 1]], "body": ["total"]}, 5),
    (
        {
            "chord": [{"chord": [["add", 1, 1], ["add", 2, 2]], "body": ["total"]}, ["add", 1, 1]],
            "body": {"chain": [["total"], ["add", 1]]},
        },
        9,
    ),
]


def workers_of(made: Rig) -> Any:
    """One of each kind; returns Celery's."""
    made.umbel_worker("-Q", "for-umbel,for-both", "--prefetch-multiplier", "1")
    return made.celery_worker("-Q", "for-celery,for-both")


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Results in Redis, where members are counted by both."""
    with rig(request.param, tmp_path_factory.mktemp("canvases")) as made:
        yield made


@pytest.fixture(scope="module")
def celery(both: Rig) -> Any:
    return workers_of(both)


@pytest.fixture(scope="module")
def client(both: Rig, celery: Any) -> CeleryClient:
    return both.celery_client()


@pytest.fixture(scope="module")
def app(both: Rig, celery: Any) -> Any:
    return both.umbel_client()


def assert_all_run(made: Rig, app: Any, client: CeleryClient, queue: str, times: int) -> None:
    """Each shape, sent by both, comes to its result, and its last task runs once."""
    sent: list[tuple[str, Any, Any]] = []
    for spec, expected in SHAPES * times:
        sent.append((client.ask("canvas", spec=spec, options={"queue": queue})["id"], expected, spec))
        sent.append((umbel_canvas(app, spec, queue).id, expected, spec))
    for task_id, expected, spec in sent:
        assert app.AsyncResult(task_id).get(timeout=TIMEOUT) == expected, spec
        assert made.runs_of(task_id).total() == 1, spec


def umbel_canvas(app: Any, spec: Any, queue: str) -> Any:
    from shared.canvases import build

    return build(app, umbel, spec, queue=queue).apply_async()


@pytest.mark.parametrize("queue", QUEUES)
def test_every_shape_sent_by_both_runs_once(both: Rig, app: Any, client: CeleryClient, celery: Any, queue: str) -> None:
    assert_all_run(both, app, client, queue, times=4 if queue == "for-both" else 1)
    assert "unregistered task" not in celery.log.read_text(errors="replace")


@pytest.mark.parametrize("queue", QUEUES)
def test_a_failed_member_fails_the_body_wherever_it_runs(both: Rig, app: Any, client: CeleryClient, queue: str) -> None:
    spec = {"chord": [["add", 1, 1], ["throw", "value"], ["add", 2, 2]], "body": ["total"], "on_error": ["failed"]}
    ids = [client.ask("canvas", spec=spec, options={"queue": queue})["id"], umbel_canvas(app, spec, queue).id]
    for task_id in ids:
        with pytest.raises(ChordError, match="ValueError"):
            app.AsyncResult(task_id).get(timeout=TIMEOUT)
        assert not both.runs_of(task_id)
        wait_for(lambda task_id=task_id: any(n.endswith(f"after {task_id}") for _, n in both.runs()), TIMEOUT)


def test_what_umbel_tells_itself_stays_away_from_celery(both: Rig, app: Any) -> None:
    """No queue that a worker of Celery reads ever has a task that it does not know: it would drop it."""
    assert app.broker.size("for-both.umbel").ready == 0
    umbel_canvas(app, SHAPES[1][0], "for-celery").get(timeout=TIMEOUT)
    assert {queue for queue in app.queues() if queue.endswith(".umbel")} == set()


# -- results where Celery's workers count nothing: celery.chord_unlock --


@pytest.fixture(scope="module")
def polled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    directory: Path = tmp_path_factory.mktemp("polled")
    with rig("redis", directory, backend=f"db+sqlite:///{directory / 'results.db'}") as made:
        yield made


def test_chords_that_celery_polls(polled: Rig) -> None:
    celery = workers_of(polled)
    client, app = polled.celery_client(), polled.umbel_client(result_chord_retry_interval=0.2)
    spec, expected = SHAPES[1]
    failing = {"chord": [["add", 1, 1], ["throw", "value"]], "body": ["total"], "on_error": ["failed"]}
    sent = []
    for queue in QUEUES:
        for each in (spec, failing):
            sent.append((each, client.ask("canvas", spec=each, options={"queue": queue})["id"]))
            sent.append((each, umbel_canvas(app, each, queue).id))
    for each, task_id in sent:
        result = app.AsyncResult(task_id)
        if each is spec:
            assert result.get(timeout=2 * TIMEOUT) == expected
            assert polled.runs_of(task_id).total() == 1
        else:
            with pytest.raises(ChordError, match="ValueError"):
                result.get(timeout=2 * TIMEOUT)
            assert not polled.runs_of(task_id)
    assert "unregistered task" not in celery.log.read_text(errors="replace")
