"""Groups of results that Celery has kept are found by Umbel, and those of Umbel by Celery."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from interop.rig import HERE, TIMEOUT, Rig, rig
from umbel import GroupResult, Umbel
from umbel.backends.base import Meta
from umbel.result import result_from_tuple


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig("redis", tmp_path_factory.mktemp("results")) as made:
        yield made


@pytest.fixture
def app(redis: Rig) -> Iterator[Umbel]:
    with Umbel("results", broker="memory://", backend=redis.environment["INTEROP_BACKEND"]) as made:
        yield made


def celery(redis: Rig, *arguments: str) -> Any:
    command = [redis.python, "-m", "shared.celery_results", *arguments]
    environment = {**os.environ, **redis.environment}
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_a_group_kept_by_celery(redis: Rig, app: Umbel) -> None:
    told = celery(redis, "keep")
    group = GroupResult.restore(told["id"], app=app)
    assert group is not None and group.parent == "before" and group.get(timeout=TIMEOUT) == ["CELERY-1", "CELERY-2"]
    assert group == result_from_tuple(told["tuple"], app)
    assert json.loads(json.dumps(group.as_tuple())) == told["tuple"]


def test_a_group_kept_by_umbel(redis: Rig, app: Umbel) -> None:
    ids = ["umbel-1", "umbel-2"]
    app.backend.store([app.backend.encode(Meta(task_id=each, status="SUCCESS", result=each.upper())) for each in ids])
    group = app.GroupResult("by-umbel", [app.AsyncResult(each) for each in ids], parent=app.AsyncResult("before"))
    group.save()
    assert celery(redis, "restore", group.id) == {"ids": ids, "parent": "before", "values": ["UMBEL-1", "UMBEL-2"]}
