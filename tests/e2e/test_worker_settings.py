"""Settings of a worker: a queue of its own, and no second run of what has succeeded."""

from __future__ import annotations

from types import ModuleType

import pytest

from umbel.backends.base import Meta
from workers import Fleet, wait_for

TIMEOUT = 30


@pytest.mark.parametrize("system", ["redis", "rabbitmq"], indirect=True)
def test_each_worker_has_a_queue_of_its_own(workers: Fleet, tasks: ModuleType) -> None:
    names = ["one@direct", "two@direct"]
    nodes = {name: workers.start("-c", "1", "-n", name, environment={"UMBEL_WORKER_DIRECT": "1"}) for name in names}
    for name in names * 2:
        pids = {process.pid for process in nodes[name].tree()}
        assert tasks.record_pid.apply_async(queue=f"{name}.dq2").get(timeout=TIMEOUT) in pids
        sent = tasks.record_pid.apply_async(exchange="C.dq2", routing_key=name)
        assert sent.get(timeout=TIMEOUT) in pids
    assert tasks.add.delay(1, 1).get(timeout=TIMEOUT) == 2


@pytest.mark.parametrize("system", ["rabbitmq"], indirect=True)
def test_what_has_succeeded_does_not_run_again(workers: Fleet, tasks: ModuleType) -> None:
    """Its worker was lost between storing and acknowledging: the next link of its chain is sent all the same."""
    workers.environment["UMBEL_WORKER_DEDUPLICATE_SUCCESSFUL_TASKS"] = "1"
    first = workers.start("-c", "1")
    last = (tasks.record.s(60.0) | tasks.say.s()).apply_async()
    wait_for(lambda: last.parent.id in workers.ledger.running(), TIMEOUT)
    backend = tasks.app.backend
    backend.store([backend.encode(Meta(task_id=last.parent.id, status="SUCCESS", result="stored"))])
    first.kill()
    second = workers.start("-c", "1", "-n", "second@%h")
    last.get(timeout=TIMEOUT)
    assert workers.ledger.begun()[last.parent.id] == 1
    assert "logger: stored" in second.log.read_text()
