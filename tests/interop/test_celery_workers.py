"""An Umbel client sends, a real Celery worker runs, and the client reads the result."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from typing import Any

import pytest

from interop.rig import TIMEOUT, Rig
from umbel import group
from umbel.errors import MaxRetriesExceededError, TaskRevokedError, TimeoutError
from workers import wait_for


@pytest.fixture(scope="module")
def app(both: Rig) -> Iterator[Any]:
    """The client; its worker is Celery's."""
    both.celery_worker("-Q", "celery,other", INTEROP_ACCEPT="json,pickle,yaml,msgpack")
    return both.umbel_client(accept_content=["json", "pickle", "yaml", "msgpack"])


def get(result: Any) -> Any:
    return result.get(timeout=TIMEOUT)


def test_delay_and_send_task(app: Any, both: Rig) -> None:
    result = app.tasks["shared.add"].delay(2, 3)
    assert get(result) == 5
    assert both.runs_of(result.id) == {"celery": 1}
    assert get(app.send_task("shared.add", kwargs={"x": "a", "y": "b"})) == "ab"
    assert result.successful() and result.state == "SUCCESS" and result.date_done


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
@pytest.mark.parametrize("compression", [None, "zlib", "bzip2", "gzip", "lzma"])
def test_serializers_and_compression(app: Any, serializer: str, compression: str | None) -> None:
    args = [1, "zwei é中😀", None, True, 4.5, [6], {"k": "v"}]
    options = {"serializer": serializer, "compression": compression}
    assert get(app.tasks["shared.echo"].apply_async(args, {"u": "x" * 3000}, **options)) == [args, {"u": "x" * 3000}]


def test_typed_json_is_the_same_on_both_sides(app: Any) -> None:
    moment = datetime.datetime(2100, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
    args = [moment, moment.date(), b"bytes", b"\xff\x00"]
    assert get(app.tasks["shared.echo"].apply_async(args)) == [args, {}]


def test_what_a_celery_task_sees_of_our_message(app: Any) -> None:
    options = {"headers": {"x-tenant": "acme"}, "time_limit": 60, "soft_time_limit": 50, "retries": 2, "expires": 300}
    result = app.tasks["shared.look"].apply_async(**options)
    seen = get(result)
    assert seen["kind"] == "celery" and seen["id"] == seen["root_id"] == seen["correlation_id"] == result.id
    assert seen["headers"] == {"x-tenant": "acme"}
    assert seen["timelimit"] == [60, 50] and seen["retries"] == 2
    assert seen["parent_id"] is None and seen["argsrepr"] == "()" and seen["expires"]


def test_delays_in_a_mixed_fleet_are_run_by_celery(app: Any, both: Rig) -> None:
    started = time.time()
    result = app.tasks["shared.add"].apply_async((1, 1), countdown=1.5)
    assert get(app.tasks["shared.add"].delay(0, 0)) == 0
    assert not both.runs_of(result.id)
    assert get(result) == 2
    assert 1.3 < time.time() - started < 5


def test_an_expired_task_is_revoked(app: Any, both: Rig) -> None:
    blocker = app.tasks["shared.wait"].delay(1.5)
    expiring = app.tasks["shared.add"].apply_async((1, 1), expires=0.3)
    get(blocker)
    get(app.tasks["shared.add"].delay(0, 0))
    assert not both.runs_of(expiring.id)
    if both.broker.startswith("redis"):
        with pytest.raises(TaskRevokedError, match="expired"):
            get(expiring)


@pytest.mark.parametrize("options", [{"priority": 9}, {"priority": 0}, {"queue": "other"}, {"routing_key": "celery"}])
def test_priorities_and_queues(app: Any, options: dict[str, Any]) -> None:
    seen = get(app.tasks["shared.look"].apply_async(**options))
    assert seen["kind"] == "celery"
    assert seen["priority"] == options.get("priority", seen["priority"])
    assert seen["routing_key"] == options.get("queue", "celery")


def test_callbacks_and_error_callbacks(app: Any, both: Rig) -> None:
    add, failed = app.tasks["shared.add"], app.tasks["shared.failed"]
    linked = add.s(10).set(task_id=f"linked-{time.time()}")
    result = add.apply_async((1, 2), link=linked)
    assert get(result) == 3
    assert get(app.AsyncResult(linked.options["task_id"])) == 13
    assert [child.id for child in result.children] == [linked.options["task_id"]]
    failing = app.tasks["shared.throw"].apply_async(("value",), link_error=failed.s())
    with pytest.raises(ValueError, match="no luck"):
        get(failing)
    wait_for(lambda: any(noted.endswith(f"after {failing.id}") for _, noted in both.runs()), TIMEOUT, "error callback")


def test_exceptions_arrive_as_the_right_classes(app: Any) -> None:
    from shared.tasks import OwnError

    throw = app.tasks["shared.throw"]
    with pytest.raises(ValueError, match="no luck"):
        get(throw.delay("value"))
    with pytest.raises(KeyError) as key:
        get(throw.delay("key"))
    assert key.value.args == ("k",)
    with pytest.raises(OwnError) as own:
        get(throw.delay("own"))
    assert own.value.args == ("of the application", 7)
    local = throw.delay("local")
    with pytest.raises(Exception, match="far") as far:
        get(local)
    assert (type(far.value).__name__, type(far.value).__module__) == ("Local", "known.nowhere")
    assert local.state == "FAILURE" and "in throw" in local.traceback


def test_retries(app: Any, both: Rig) -> None:
    result = app.tasks["shared.retry_until"].delay(2, 0.5)
    wait_for(lambda: app.AsyncResult(result.id).state == "RETRY", TIMEOUT)
    assert get(result) == 2
    assert both.runs_of(result.id) == {"celery": 3}
    with pytest.raises(MaxRetriesExceededError):
        get(app.tasks["shared.give_up"].delay())


def test_ignored_results_are_not_stored(app: Any, both: Rig) -> None:
    result = app.tasks["shared.add"].apply_async((1, 1), ignore_result=True)
    wait_for(lambda: both.runs_of(result.id), TIMEOUT)
    with pytest.raises(TimeoutError):
        app.AsyncResult(result.id).get(timeout=0.3)


def test_a_group(app: Any) -> None:
    add = app.tasks["shared.add"]
    assert get(group(add.s(number, 1) for number in range(20)).apply_async()) == list(range(1, 21))


def test_bulk(app: Any) -> None:
    add = app.tasks["shared.add"]
    results = app.send_many(add.s(number, 1) for number in range(50))
    assert [get(result) for result in results] == list(range(1, 51))
