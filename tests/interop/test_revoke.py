"""A revoke of one kind of client reaches the workers of the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.rig import TIMEOUT, Rig, rig
from umbel.control import revocations_of
from umbel.errors import TaskRevokedError
from umbel.message import new_id
from workers import wait_for


@pytest.fixture(params=["redis", "rabbitmq"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    with rig(request.param, tmp_path) as made:
        yield made


def test_a_celery_clients_revoke_reaches_umbels_workers_for_good(both: Rig) -> None:
    app, client = both.umbel_client(), both.celery_client()
    first = both.umbel_worker("--loglevel", "debug")
    wait_for(lambda: "remote control is heard" in first.log.read_text(), TIMEOUT)
    task_id = new_id()
    client.ask("revoke", task_id=task_id)
    store = revocations_of(app)
    assert store is not None
    wait_for(lambda: [each for each in store.since(0.0)[1] if task_id in each.revocation.task_ids], TIMEOUT)
    first.stop()
    client.send("shared.add", [1, 2], task_id=task_id)
    both.umbel_worker()
    assert client.get(task_id)["exc_type"] == "TaskRevokedError"
    assert not both.runs_of(task_id)


def test_an_umbel_clients_revoke_reaches_celerys_workers(both: Rig) -> None:
    app = both.umbel_client()
    worker = both.celery_worker()
    task_id = new_id()
    app.control.revoke(task_id)
    wait_for(lambda: f"flagged as revoked: {task_id}" in worker.log.read_text(), TIMEOUT)
    revoked = app.tasks["shared.add"].apply_async((1, 2), task_id=task_id)
    with pytest.raises(TaskRevokedError, match="revoked"):
        revoked.get(timeout=TIMEOUT)
    assert not both.runs_of(task_id)


def test_revocations_by_stamp_reach_the_workers_of_both(both: Rig) -> None:
    app, client = both.umbel_client(), both.celery_client()
    both.celery_worker()
    umbel = both.umbel_worker("--loglevel", "debug")
    wait_for(lambda: "remote control is heard" in umbel.log.read_text(), TIMEOUT)
    app.control.revoke_by_stamped_headers({"tenant": "acme"})
    (reply,) = client.ask("revoke_by_stamped_headers", headers={"tenant": "globex"})["replies"]
    assert "flagged as revoked" in str(reply), "by Celery's worker, which has heard the former one before"
    store = revocations_of(app)
    assert store is not None
    wait_for(lambda: "globex" in str(store.since(0.0)[1]), TIMEOUT)
    revoked = [app.tasks["shared.add"].s(1, 2).stamp(tenant=name).apply_async() for name in ("acme", "globex") * 3]
    other = app.tasks["shared.add"].s(1, 2).stamp(tenant="initech").apply_async()
    assert other.get(timeout=TIMEOUT) == 3
    for result in revoked:
        with pytest.raises(TaskRevokedError, match="revoked"):
            result.get(timeout=TIMEOUT)
        assert not both.runs_of(result.id)
