"""Tasks that misbehave: each ends in a clear outcome, and the worker that ran it goes on as if nothing had been."""

from __future__ import annotations

import decimal
import math
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from apps.odd import DEATHS, ERRORS, MISDEEDS
from oddities import TIMEOUT, Node, node
from processes import runs
from umbel.errors import EncodeError, TaskError, WorkerLostError
from workers import wait_for


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with node(request.param, tmp_path_factory.mktemp("odd")) as made:
        yield made


# -- the process dies ------------------------------------------------------------------------------

HOW_IT_DIED = {
    "os._exit": "exited with code 3",
    "os._exit(0)": "exited with code 0",
    "segfault": "killed by signal 11 (SIGSEGV)",
    "abort": "killed by signal 6 (SIGABRT)",
    "SIGKILL": "killed by signal 9 (SIGKILL)",
    "SIGTERM": "killed by signal 15 (SIGTERM)",
    "out of CPU time": "killed by signal 9 (SIGKILL)",
    "all descriptors closed": "exited with code 1",
    "all descriptors reused": "exited with code 1",
    "exit in the parent of a fork": "exited with code 3",
}


@pytest.mark.parametrize("how", ["os._exit", "all descriptors closed"])
def test_a_task_that_ends_its_process_is_run_three_times_and_dead_lettered(odd: Node, how: str) -> None:
    """Pain 17: a poison task kills worker after worker."""
    result = odd.tasks.die.delay(how)
    neighbours = [odd.tasks.add.delay(number, 1) for number in range(5)]
    with pytest.raises(WorkerLostError) as caught:
        result.get(timeout=30)
    assert HOW_IT_DIED[how] in str(caught.value) and "3 times now" in str(caught.value)
    letter = odd.take_dead_letter(result.id)
    assert HOW_IT_DIED[how] in letter.reason
    assert letter.message.task == "apps.odd.die"
    assert [each.get(timeout=TIMEOUT) for each in neighbours] == [1, 2, 3, 4, 5]
    assert odd.worker.output().count(f"id={result.id}") >= 3


def test_every_way_to_die_is_told_apart_and_costs_no_other_task(odd: Node) -> None:
    odd.worker.stop()
    worker = odd.start("-c", "4", environment={"UMBEL_WORKER_CRASH_LIMIT": "1"})
    dying = {how: odd.tasks.die.delay(how) for how in DEATHS}
    neighbours = [odd.tasks.add.delay(number, 1) for number in range(20)]
    for how, result in dying.items():
        with pytest.raises(WorkerLostError, match=re.escape(HOW_IT_DIED[how])):
            result.get(timeout=30)
        assert HOW_IT_DIED[how] in odd.take_dead_letter(result.id).reason
    assert [each.get(timeout=TIMEOUT) for each in neighbours] == list(range(1, 21))
    wait_for(lambda: len(worker.executors()) == 4, TIMEOUT, "all executors are replaced")
    assert worker.stop() == 0


# -- the process goes on ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", MISDEEDS)
def test_a_misdeed_changes_nothing_for_later_tasks_and_the_worker_still_stops(odd: Node, how: str) -> None:
    result = odd.tasks.misbehave.delay(how)
    assert result.get(timeout=TIMEOUT) == how
    assert [odd.tasks.add.delay(number, 1).get(timeout=TIMEOUT) for number in range(3)] == [1, 2, 3]
    sent = odd.tasks.send_another.delay(4).get(timeout=TIMEOUT) if how != "no files allowed" else None
    if sent is not None:
        assert odd.tasks.app.AsyncResult(sent).get(timeout=TIMEOUT) == 5
    wait_for(odd.is_settled, TIMEOUT, "everything is settled")
    worker, tree = odd.worker, odd.worker.tree()
    started = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - started < 8
    ours = [process for process in tree if runs(process) and process.name() != "sleep"]
    wait_for(lambda: not any(runs(process) for process in ours if _is_executor(process)), 5, f"{ours} end")
    for process in tree:
        if runs(process):
            process.kill()


def _is_executor(process: psutil.Process) -> bool:
    """Not a process that a task left behind."""
    return process.ppid() != 1


@pytest.mark.parametrize("how", ["signal handlers replaced", "signals blocked", "threads left"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT], ids=["INT", "QUIT"])
@pytest.mark.parametrize("shared", ["sqlite"], indirect=True)
def test_other_signals_stop_the_worker_as_well(odd: Node, how: str, number: signal.Signals) -> None:
    odd.tasks.misbehave.delay(how).get(timeout=TIMEOUT)
    started = time.monotonic()
    odd.worker.stop(number)
    assert time.monotonic() - started < 8


@pytest.mark.parametrize("shared", ["sqlite"], indirect=True)
def test_a_relative_sqlite_file_is_found_after_a_task_changed_the_directory(odd: Node, tmp_path: Path) -> None:
    """The executor sends to the file that the worker consumes, not to one of the same name elsewhere."""
    name = os.path.relpath(odd.directory / "umbel.db", Path(__file__).parents[1])
    odd.worker.stop()
    worker = odd.start(environment={"LEDGER_BROKER": f"sqlite:///{name}"})
    odd.tasks.misbehave.delay("surroundings changed").get(timeout=TIMEOUT)
    assert odd.tasks.where.delay().get(timeout=TIMEOUT)[1] == "/"
    sent = odd.tasks.send_another.delay(1).get(timeout=TIMEOUT)
    assert odd.tasks.app.AsyncResult(sent).get(timeout=TIMEOUT) == 2
    assert worker.stop() == 0


# -- results ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what",
    ["object", "function", "generator", "deep", "contains itself", "repr raises", "complex"],
)
def test_a_result_that_cannot_be_serialized_is_a_clear_failure(odd: Node, what: str) -> None:
    result = odd.tasks.give.delay(what)
    with pytest.raises(EncodeError):
        result.get(timeout=TIMEOUT)
    assert result.state == "FAILURE"
    assert "task failed" in odd.worker.output()


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("bytes", b"\x00\xff"),
        ("Decimal", decimal.Decimal("1.10")),
        ("infinity", math.inf),
        ("big integer", 1 << 200),
        ("surrogate", "\udc80"),
    ],
)
def test_a_result_of_an_unusual_type_comes_back_or_fails_clearly(odd: Node, what: str, expected: object) -> None:
    result = odd.tasks.give.delay(what)
    wait_for(result.ready, TIMEOUT)
    if result.failed():
        with pytest.raises(EncodeError):
            result.get()
    else:
        assert result.get() == expected


@pytest.mark.parametrize("what", ["NaN", "set", "numbers as keys", "tuples as keys", "exception"])
def test_a_result_that_json_knows_otherwise_ends_in_one_state(odd: Node, what: str) -> None:
    result = odd.tasks.give.delay(what)
    wait_for(result.ready, TIMEOUT)
    if result.failed():
        with pytest.raises(EncodeError):
            result.get()
    elif what == "NaN":
        assert math.isnan(result.get())
    else:
        assert result.get() is not None


# -- errors ----------------------------------------------------------------------------------------

AS_THEMSELVES = {
    "group": Exception,
    "StopIteration": StopIteration,
    "MemoryError": MemoryError,
    "huge": ValueError,
    "surrogates": ValueError,
    "caused by itself": ValueError,
    "unserializable arguments": ValueError,
    "arguments whose repr raises": ValueError,
    "deep arguments": ValueError,
}
NAMES_REMAIN = {
    "repr raises": "BadRepr",
    "two arguments": "NeedsTwo",
    "reduce raises": "Unreducible",
    "args raise": "BadArguments",
    "local class": "Local",
}
ENDINGS = {
    "KeyboardInterrupt",
    "GeneratorExit",
    "SystemExit",
    "SystemExit with text",
    "BaseException",
    "CancelledError",
}


@pytest.mark.parametrize("what", ERRORS)
@pytest.mark.parametrize("task", ["throw", "throw_later"], ids=["def", "async def"])
def test_whatever_a_task_raises_is_a_failure_that_can_be_read(odd: Node, task: str, what: str) -> None:
    result = odd.tasks.app.tasks[f"apps.odd.{task}"].delay(what)
    expected: type[BaseException] = TaskError if what in ENDINGS else AS_THEMSELVES.get(what, Exception)
    if what == "StopIteration" and task == "throw_later":
        expected = RuntimeError
    with pytest.raises(expected) as caught:
        result.get(timeout=TIMEOUT)
    assert result.state == "FAILURE" and result.traceback
    if what in NAMES_REMAIN:
        assert type(caught.value).__name__ == NAMES_REMAIN[what]
    if what in ENDINGS:
        assert "cannot end its worker" in str(caught.value)


def test_an_exception_of_a_module_that_the_client_lacks_keeps_its_name(odd: Node) -> None:
    client = odd.tasks.app.__class__("client", broker=odd.urls[0], backend=odd.urls[1], set_as_current=False)
    try:
        result = client.send_task("apps.odd.throw", ["local class"])
        with pytest.raises(Exception, match="known nowhere else") as caught:
            result.get(timeout=TIMEOUT)
        assert type(caught.value).__name__ == "Local"
    finally:
        client.close()


def test_endless_recursion_and_impossible_allocations_are_failures(odd: Node) -> None:
    with pytest.raises(RecursionError):
        odd.tasks.recurse.delay().get(timeout=TIMEOUT)
    with pytest.raises((MemoryError, OverflowError)):
        odd.tasks.allocate.delay().get(timeout=TIMEOUT)


def test_every_executor_lives_through_all_failures(odd: Node) -> None:
    pid, _ = odd.tasks.where.delay().get(timeout=TIMEOUT)
    for what in ERRORS:
        odd.tasks.throw.delay(what)
    assert odd.tasks.where.delay().get(timeout=TIMEOUT)[0] == pid
