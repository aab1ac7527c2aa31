"""Aborting without a worker: eager tasks, plain calls, and stores that keep nothing."""

from __future__ import annotations

from typing import Any

import pytest

from umbel import Umbel
from umbel.abortable import AbortableAsyncResult, AbortableTask
from umbel.errors import BackendError, NoBackend


@pytest.fixture
def app() -> Umbel:
    return Umbel(broker="memory://", backend="memory://abortable", set_as_current=False)


@pytest.fixture
def work(app: Umbel) -> Any:
    @app.task(bind=True, base=AbortableTask, name="work")
    def work(self: Any) -> bool:
        return self.is_aborted()

    return work


def test_a_plain_call_is_not_aborted(work: Any) -> None:
    assert work() is False


def test_a_call_that_is_applied_here_looks_too(work: Any) -> None:
    assert work.apply(task_id="one").get() is False
    work.AsyncResult("two").abort()
    assert work.apply(task_id="two").get() is True


def test_results_of_the_task_can_abort(work: Any) -> None:
    result = work.AsyncResult("three")
    assert isinstance(result, AbortableAsyncResult)
    assert not result.is_aborted()
    result.abort()
    assert result.is_aborted()
    assert work.is_aborted(task_id="three")
    assert result.state == "ABORTED"
    result.forget()
    assert not result.is_aborted()


def test_states_that_the_task_stores_do_not_undo_it(work: Any) -> None:
    work.AsyncResult("four").abort()
    work.update_state("four", "PROGRESS", {})
    assert work.AsyncResult("four").is_aborted()


def test_without_a_result_store_it_is_refused() -> None:
    app = Umbel(broker="memory://", backend="disabled://", set_as_current=False)

    @app.task(bind=True, base=AbortableTask, name="work")
    def work(self: Any) -> bool:
        return self.is_aborted()

    with pytest.raises(NoBackend, match="result_backend"):
        work.AsyncResult("one").abort()
    assert work.apply().get() is False


def test_results_that_are_answers_cannot_tell_a_task() -> None:
    app = Umbel(broker="amqp://127.0.0.1:1//", backend="rpc://", set_as_current=False)
    result = AbortableAsyncResult[Any]("one", app=app)
    assert not result.is_aborted()
    with pytest.raises(BackendError, match="another"):
        result.abort()
