"""The deterministic worker and its clock: tasks run when they are told to, with the semantics of every worker."""

import datetime
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from umbel import Reject, SoftTimeLimitExceeded, Umbel, chain, chord, group
from umbel.errors import ChordError, ConfigurationError, TaskRevokedError, UmbelError
from umbel.signals import task_postrun, task_received
from umbel.testing import InProcessWorker, VirtualClock
from umbel.testing.apps import app_for_tests


@pytest.fixture
def app() -> Iterator[Umbel]:
    with app_for_tests() as app:
        yield app


def adding(app: Umbel) -> Any:
    @app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    return add


def failing(app: Umbel) -> Any:
    @app.task(name="fail")
    def fail(*args: Any) -> None:
        raise ValueError("no luck")

    return fail


def states(worker: InProcessWorker) -> list[tuple[str, str]]:
    return [(run.task, run.state) for run in worker.runs]


def test_tasks_run_one_by_one_in_order_in_this_thread(app: Umbel) -> None:
    seen: list[tuple[int, int]] = []

    @app.task(name="note")
    def note(number: int) -> int:
        seen.append((number, threading.get_ident()))
        return number

    sent = [note.delay(number) for number in range(3)]
    urgent = note.apply_async((9,), priority=9)
    with InProcessWorker(app) as worker:
        assert seen == []
        first = worker.run_next()
        assert first is not None and (first.id, first.task, first.state) == (urgent.id, "note", "SUCCESS")
        assert [run.id for run in worker.drain()] == [result.id for result in sent]
        assert worker.run_next() is None
    assert seen == [(number, threading.get_ident()) for number in (9, 0, 1, 2)]
    assert [result.get(timeout=1) for result in sent] == [0, 1, 2]


def test_tasks_that_are_sent_meanwhile_run_too(app: Umbel) -> None:
    @app.task(name="count_down")
    def count_down(number: int) -> None:
        if number:
            count_down.delay(number - 1)

    count_down.delay(3)
    with InProcessWorker(app) as worker:
        assert len(worker.drain()) == 4
        assert worker.drain() == []


def test_canvases(app: Umbel) -> None:
    add = adding(app)

    @app.task(name="total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    with InProcessWorker(app) as worker:
        linked = chain(add.s(1, 1), add.s(2), add.s(3)).delay()
        several = group(add.s(n, n) for n in range(3)).delay()
        counted = chord([add.s(n, n) for n in range(3)], total.s() | add.s(1)).delay()
        worker.drain()
        worker.assert_no_failures()
        assert linked.get(timeout=1) == 7
        assert several.get(timeout=1) == [0, 2, 4]
        assert counted.get(timeout=1) == 7


def test_a_failed_member_fails_the_chord_and_calls_its_error_callback(app: Umbel) -> None:
    add, fail = adding(app), failing(app)
    told: list[str] = []

    @app.task(name="tell")
    def tell(request: Any, error: Exception, traceback: str) -> None:
        told.append(type(error).__name__)

    with InProcessWorker(app) as worker:
        result = chord([add.s(1, 1), fail.s()], add.s(1).on_error(tell.s())).delay()
        worker.drain()
        with pytest.raises(ChordError, match="no luck"):
            result.get(timeout=1)
    assert told == ["ChordError"]


def test_retries_come_when_their_pause_is_over(app: Umbel) -> None:
    at: list[float] = []

    @app.task(name="flaky", bind=True, autoretry_for=(OSError,), retry_backoff=10, retry_jitter=False, max_retries=3)
    def flaky(self: Any) -> int:
        at.append(worker.clock.time())
        if self.request.retries < 3:
            raise OSError("not yet")
        return self.request.retries

    with InProcessWorker(app) as worker:
        start = worker.clock.time()
        result = flaky.delay()
        assert [run.state for run in worker.drain()] == ["RETRY"]
        assert result.state == "RETRY"
        assert worker.advance(9.9) == []
        assert [run.state for run in worker.advance(0.1)] == ["RETRY"]
        assert [run.state for run in worker.advance(3600)] == ["RETRY", "SUCCESS"]
        assert [round(moment - start, 3) for moment in at] == [0, 10, 30, 70]
        assert worker.clock.time() == pytest.approx(start + 3610)
    assert result.get(timeout=1) == 3


def test_retries_end_and_a_retry_may_come_at_once(app: Umbel) -> None:
    @app.task(name="hopeless", bind=True, max_retries=2)
    def hopeless(self: Any) -> None:
        raise self.retry(exc=KeyError("gone"), countdown=0)

    result = hopeless.delay()
    with InProcessWorker(app) as worker:
        assert [run.state for run in worker.drain()] == ["RETRY", "RETRY", "FAILURE"]
        with pytest.raises(AssertionError, match=r"1 of 3 runs failed:\nhopeless.*KeyError.*\nTraceback"):
            worker.assert_no_failures()
    with pytest.raises(KeyError):
        result.get(timeout=1)


def test_delays_and_etas_go_by_the_virtual_clock(app: Umbel) -> None:
    add = adding(app)
    begun = time.monotonic()
    with InProcessWorker(app) as worker:
        late = add.apply_async((3, 3), countdown=43200)
        soon = add.apply_async((1, 1), countdown=60)
        middle = add.apply_async((2, 2), eta=worker.clock.now() + datetime.timedelta(hours=1))
        assert worker.drain() == []
        assert [run.id for run in worker.advance(60)] == [soon.id]
        runs = worker.advance(50000)
        assert [run.id for run in runs] == [middle.id, late.id]
        assert runs[1].at - runs[0].at == pytest.approx(43200 - 3600, abs=1e-3)
        assert late.get(timeout=1) == 6
        assert late.date_done is not None and late.date_done.timestamp() == pytest.approx(runs[1].at, abs=1e-3)
        assert app.now().timestamp() == pytest.approx(worker.clock.time())
        assert abs(time.time() - datetime.datetime.now().timestamp()) < 5
        assert worker.clock.time() - time.time() > 40000
    assert time.monotonic() - begun < 10
    add.apply_async((1, 1), countdown=60)
    with InProcessWorker(app) as worker:
        assert len(worker.run_until_empty()) == 1


def test_a_mixed_fleet_s_delays(app: Umbel) -> None:
    app.conf.mixed_fleet = True
    add = adding(app)
    with InProcessWorker(app) as worker:
        add.apply_async((1, 1), countdown=60)
        assert worker.drain() == []
        assert [run.state for run in worker.advance(60)] == ["SUCCESS"]


def test_what_expires_is_not_run(app: Umbel) -> None:
    add = adding(app)
    with InProcessWorker(app) as worker:
        expired = add.apply_async((1, 1), expires=30)
        worker.clock.advance(31)
        good = add.apply_async((2, 2), expires=30)
        assert [(run.id, run.state, run.error) for run in worker.drain()] == [
            (expired.id, "REVOKED", "expired"),
            (good.id, "SUCCESS", ""),
        ]
        with pytest.raises(TaskRevokedError):
            expired.get(timeout=1)


@pytest.mark.parametrize("scope", ["worker", "cluster"])
def test_rate_limits_go_by_the_virtual_clock(app: Umbel, scope: str) -> None:
    @app.task(name="limited", rate_limit="2/m", rate_limit_scope=scope)
    def limited() -> None: ...

    free = adding(app)
    for _ in range(4):
        limited.delay()
    free.delay(1, 1)
    with InProcessWorker(app) as worker:
        start = worker.clock.time()
        assert [run.task for run in worker.drain()] == ["limited", "add"]
        runs = worker.advance(300)
        assert [round(run.at - start) for run in runs] == [30, 60, 90]


def test_acknowledged_early_or_late(app: Umbel) -> None:
    sizes: list[int] = []

    def look() -> None:
        sizes.append(app.broker.size("celery").held)

    app.make_task(look, name="late", acks_late=True).delay()
    app.make_task(look, name="early", acks_late=False).delay()
    with InProcessWorker(app) as worker:
        assert [run.state for run in worker.drain()] == ["SUCCESS", "SUCCESS"]
    assert sizes == [1, 0]
    assert app.broker.size("celery").ready == 0


def test_rejected_messages(app: Umbel) -> None:
    @app.task(name="refuse", bind=True)
    def refuse(self: Any, requeue: bool) -> None:
        raise Reject("unfit", requeue=requeue and not self.request.redelivered)

    refuse.delay(False)
    with InProcessWorker(app) as worker:
        assert states(worker) == [] and [run.state for run in worker.drain()] == ["REJECTED"]
        assert [letter.reason for letter in app.broker.dead_letters("celery")] == ["unfit"]
        refuse.delay(True)
        with pytest.raises(UmbelError, match="5 tasks were run and there are more; the last was refuse"):
            worker.drain(limit=5)


def test_unknown_tasks_are_parked_and_run_once_they_are_known(app: Umbel) -> None:
    result = app.send_task("add", (1, 2))
    with InProcessWorker(app) as worker:
        worker.drain()
        assert states(worker) == [("add", "PARKED")]
        adding(app)
        worker.drain()
        assert result.get(timeout=1) == 3


def test_revoked_tasks_are_not_run(app: Umbel) -> None:
    add = adding(app)
    kept, revoked = add.delay(1, 1), add.delay(2, 2)
    with InProcessWorker(app) as worker:
        revoked.revoke()
        assert [(run.id, run.state) for run in worker.drain()] == [(kept.id, "SUCCESS"), (revoked.id, "REVOKED")]


def test_keys_of_unique_tasks_are_given_up(app: Umbel) -> None:
    @app.task(name="once", unique=True)
    def once() -> None: ...

    with InProcessWorker(app) as worker:
        first = once.delay()
        assert once.delay().id == first.id
        assert len(worker.drain()) == 1
        assert once.delay().id != first.id
        assert [run.state for run in worker.drain()] == ["SUCCESS"]


def test_async_tasks_soft_limits_and_much_progress(app: Umbel) -> None:
    @app.task(name="double")
    async def double(number: int) -> int:
        return 2 * number

    @app.task(name="slow", soft_time_limit=0.05)
    def slow() -> str:
        try:
            time.sleep(10)
        except SoftTimeLimitExceeded:
            return "in time"
        return "too late"

    @app.task(name="busy", bind=True)
    def busy(self: Any) -> str | None:
        for number in range(3000):
            self.progress(number, 3000)
        return app.AsyncResult(self.request.id).state

    results = [double.delay(2), slow.delay(), busy.delay()]
    with InProcessWorker(app) as worker:
        worker.drain()
    assert [result.get(timeout=1) for result in results] == [4, "in time", "PROGRESS"]


def test_signals_and_results_in_another_store(app: Umbel) -> None:
    app.conf.result_backend = "memory://elsewhere-than-the-broker"
    add = adding(app)
    heard: list[str] = []

    def on_received(request: Any, **_: Any) -> None:
        heard.append(f"received {request.name}")

    def on_postrun(task_id: str, state: str, **_: Any) -> None:
        heard.append(state)

    task_received.connect(on_received, weak=False)
    task_postrun.connect(on_postrun, weak=False)
    try:
        with InProcessWorker(app) as worker:
            total = chord([add.s(1, 1), add.s(2, 2)], app.make_task(sum, name="sum").s()).delay()
            worker.drain()
            assert total.get(timeout=1) == 6
    finally:
        task_received.disconnect(on_received)
        task_postrun.disconnect(on_postrun)
    assert heard[:4] == ["received add", "SUCCESS", "received add", "SUCCESS"]


def test_queues_can_be_chosen(app: Umbel) -> None:
    add = adding(app)
    add.apply_async((1, 1), queue="other")
    mine = add.apply_async((2, 2), queue="mine")
    with InProcessWorker(app, queues=["mine"]) as worker:
        assert [run.id for run in worker.drain()] == [mine.id]


def test_it_leaves_nothing_behind_and_gives_back_what_it_did_not_run(app: Umbel) -> None:
    add = adding(app)
    with InProcessWorker(app) as worker:
        worker.drain()
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(3):
        add.delay(1, 1)
        with InProcessWorker(app):
            add.delay(2, 2)
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
    assert app.broker.size("celery").ready == 6
    with pytest.raises(UmbelError, match="inside its `with` block only"):
        worker.run_next()


def test_it_needs_a_broker_in_memory() -> None:
    app = Umbel("elsewhere", broker="redis://localhost:1", set_as_current=False)
    with pytest.raises(ConfigurationError, match="memory://"):
        InProcessWorker(app)


def test_one_clock_at_a_time(app: Umbel) -> None:
    clock = VirtualClock(datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC))
    add = adding(app)
    with clock:
        add.apply_async((1, 1), countdown=10)
        assert app.now().year == 2030
        with InProcessWorker(app, clock=clock) as worker:
            assert len(worker.advance(10)) == 1
        assert clock.now() == datetime.datetime(2030, 1, 1, 0, 0, 10, tzinfo=datetime.UTC)
        with pytest.raises(UmbelError, match="another virtual clock"), InProcessWorker(app):
            pass
        with pytest.raises(ValueError, match="does not go back"):
            clock.advance(-1)
        assert app.now().year == 2030
    assert app.now().year < 2030
