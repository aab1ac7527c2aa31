"""Middlewares around what a worker runs and what its tasks send, in every kind of pool."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from conformance.pool.conftest import place, start
from conformance.pool.pools import POOLS, PoolCase
from umbel.errors import ConfigurationError

TIMEOUT = 20
KINDS = [case for case in POOLS if case.id in ("prefork", "threads", "asyncio", "gevent")]
ONCE = ["outer", "inner"]


@pytest.fixture(scope="module", params=KINDS, ids=lambda case: case.id)
def around(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """``apps.around``, with a worker that has one event loop."""
    case: PoolCase = request.param
    lanes = 1 if case.id in ("prefork", "threads") else 4
    with place(tmp_path_factory.mktemp("around"), "apps.around", "sqlite") as (workers, module):
        one = PoolCase(case.id, ("-P", case.id, "-c", str(lanes)), 1, lanes)
        start(workers, one, app="apps.around")
        yield module


@pytest.mark.parametrize("kind", ["look", "look_async"])
def test_they_are_around_each_run_in_their_order(around: ModuleType, kind: str) -> None:
    sent = [around.app.tasks[f"apps.around.{kind}"].delay("me") for _ in range(5)]
    assert [result.get(timeout=TIMEOUT) for result in sent] == [["ME", ONCE, ONCE]] * 5


@pytest.mark.parametrize("kind", ["fail", "fail_async"])
def test_errors_pass_them(around: ModuleType, kind: str) -> None:
    with pytest.raises(ValueError, match="no LUCK"):
        around.app.tasks[f"apps.around.{kind}"].delay("luck").get(timeout=TIMEOUT)


@pytest.mark.parametrize("kind", ["fail", "fail_async"])
def test_one_may_answer_instead_of_the_task(around: ModuleType, kind: str) -> None:
    assert around.app.tasks[f"apps.around.{kind}"].delay("refused").get(timeout=TIMEOUT) == "refused"


@pytest.mark.parametrize("kind", ["send", "send_async"])
def test_they_are_around_what_tasks_send(around: ModuleType, kind: str) -> None:
    inner = around.app.tasks[f"apps.around.{kind}"].delay("me").get(timeout=TIMEOUT)
    assert around.app.AsyncResult(inner).get(timeout=TIMEOUT) == ["ME", ONCE, ONCE]


@pytest.mark.parametrize("kind", ["again", "again_async"])
def test_they_are_around_retries(around: ModuleType, kind: str) -> None:
    assert around.app.tasks[f"apps.around.{kind}"].delay("me").get(timeout=TIMEOUT) == ["ME", ONCE * 2, ONCE]


@pytest.mark.parametrize("kind", ["send", "send_async"])
def test_they_are_around_callbacks(around: ModuleType, kind: str) -> None:
    last = around.app.tasks[f"apps.around.{kind}"].s("me") | around.look_async.s()
    text, marks, trail = last.delay().get(timeout=TIMEOUT)
    assert (text, marks, trail) == (text.upper(), ONCE, ONCE)


def test_all_of_it_is_awaited_in_the_one_loop_that_runs_tasks(around: ModuleType) -> None:
    assert around.count_loops.delay().get(timeout=TIMEOUT) == 1


def test_plain_code_in_a_coroutine_waits_for_them_or_is_told_why_not(
    around: ModuleType, request: pytest.FixtureRequest
) -> None:
    sent = around.send_plainly.delay("me")
    if "gevent" in request.node.name:
        with pytest.raises(ConfigurationError, match=r"adelay\(\) in place of delay\(\)"):
            sent.get(timeout=TIMEOUT)
    else:
        assert around.app.AsyncResult(sent.get(timeout=TIMEOUT)).get(timeout=TIMEOUT) == ["ME", ONCE, ONCE]
