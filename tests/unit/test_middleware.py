"""Middleware: order, errors, what may be changed, and what is refused."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from umbel import Middleware, Request, Umbel, group
from umbel.errors import ConfigurationError
from umbel.execution import Outcome, execute_async, execute_message, read_call
from umbel.message import Message, decode_headers
from umbel.middleware import Call

seen: list[str] = []


class Outer(Middleware):
    def publish(self, call: Call, next: Any) -> Message:
        seen.append("outer sends")
        message = next(call)
        seen.append("outer has sent")
        return message

    def run(self, request: Request, next: Any) -> Any:
        seen.append("outer begins")
        try:
            return next(request)
        finally:
            seen.append("outer ends")

    async def arun(self, request: Request, next: Any) -> Any:
        seen.append("outer begins")
        try:
            return await next(request)
        finally:
            seen.append("outer ends")


class Inner(Middleware):
    def publish(self, call: Call, next: Any) -> Message:
        seen.append("inner sends")
        return next(call)

    def run(self, request: Request, next: Any) -> Any:
        seen.append("inner begins")
        value = next(request)
        seen.append(f"inner got {value}")
        return value * 2

    async def arun(self, request: Request, next: Any) -> Any:
        seen.append("inner begins")
        value = await next(request)
        seen.append(f"inner got {value}")
        return value * 2


@pytest.fixture
def app() -> Iterator[Umbel]:
    seen.clear()
    with Umbel("mid", broker=f"memory://{uuid.uuid4()}", backend=f"memory://{uuid.uuid4()}") as made:
        yield made


def only_message(app: Umbel) -> Message:
    (message,) = app.broker.peek("celery", 2)
    app.broker.purge("celery")
    return message


def run(app: Umbel, task: Any, *args: Any, **options: Any) -> Outcome:
    task.apply_async(args, **options)
    return execute_message(app, only_message(app))


def test_the_first_added_is_the_outermost(app: Umbel) -> None:
    @app.task
    def add(x: int, y: int) -> int:
        seen.append("task")
        return x + y

    assert run(app, add, 1, 2).value == 3 and seen == ["task"]
    seen.clear()
    app.middleware.add(Outer(), Inner())
    assert run(app, add, 1, 2).value == 6
    sent = ["outer sends", "inner sends", "outer has sent"]
    assert seen == [*sent, "outer begins", "inner begins", "task", "inner got 3", "outer ends"]


@pytest.mark.parametrize("how", ["in the loop of the thread", "in a running loop"])
def test_async_tasks_pass_the_async_chain(app: Umbel, how: str) -> None:
    app.middleware.add(Outer(), Inner())

    @app.task
    async def add(x: int, y: int) -> int:
        await asyncio.sleep(0)
        seen.append("task")
        return x + y

    add.delay(1, 2)
    seen.clear()
    message = only_message(app)
    if how == "in a running loop":
        outcome = asyncio.run(execute_async(app, *read_call(app, message)))
    else:
        outcome = execute_message(app, message)
    assert outcome.value == 6
    assert seen == ["outer begins", "inner begins", "task", "inner got 3", "outer ends"]


def test_errors_pass_and_may_be_replaced(app: Umbel) -> None:
    class Translate(Middleware):
        def run(self, request: Request, next: Any) -> Any:
            try:
                return next(request)
            except KeyError as error:
                raise ValueError(f"no {error.args[0]}") from error
            except ZeroDivisionError:
                return "infinite"

    app.middleware.add(Outer(), Translate())

    @app.task(bind=True)
    def fail(self: Any, how: str) -> None:
        if how == "retry":
            raise self.retry(countdown=0)
        raise ZeroDivisionError if how == "zero" else KeyError(how)

    failed = run(app, fail, "luck")
    assert failed.state == "FAILURE" and repr(failed.value) == "ValueError('no luck')"
    assert seen[-1] == "outer ends"
    assert run(app, fail, "zero").value == "infinite"
    retried = run(app, fail, "retry")
    assert retried.state == "RETRY" and len(retried.publish) == 1


def test_an_error_of_a_middleware_is_that_of_the_task(app: Umbel) -> None:
    class Refuse(Middleware):
        def run(self, request: Request, next: Any) -> Any:
            raise PermissionError("not you")

    app.middleware.add(Refuse())

    @app.task(autoretry_for=(PermissionError,), max_retries=1, default_retry_delay=0)
    def work() -> None:
        raise AssertionError("must not run")

    outcome = run(app, work)
    assert outcome.state == "RETRY" and isinstance(outcome.value.exc, PermissionError)
    assert run(app, work, retries=1).state == "FAILURE"


def test_everything_of_a_call_may_be_changed(app: Umbel) -> None:
    class Change(Middleware):
        def publish(self, call: Call, next: Any) -> Message:
            assert call.task is add and call.name == add.name
            call.args[0] = 10
            call.kwargs["y"] = 5
            call.headers["tenant"] = "acme"
            call.options["priority"] = 7
            return next(call)

    @app.task(bind=True)
    def add(self: Any, x: int, y: int = 0) -> Any:
        return x + y, self.request.headers

    app.middleware.add(Change())
    args, kwargs, headers = [1], {"y": 1}, {"trace": "t"}
    add.apply_async(args, kwargs, headers=headers)
    message = only_message(app)
    assert message.priority == 7
    assert execute_message(app, message).value == (15, {"trace": "t", "tenant": "acme"})
    assert (args, kwargs, headers) == ([1], {"y": 1}, {"trace": "t"})


def test_arguments_may_be_replaced_before_the_run(app: Umbel) -> None:
    class Shout(Middleware):
        def run(self, request: Request, next: Any) -> Any:
            request.args = [request.args[0].upper()]
            return next(request)

    class Greeting(app.Task):
        def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
            seen.append(f"before_start {args}")

    app.middleware.add(Shout())

    @app.task(base=Greeting)
    def greet(name: str) -> str:
        return f"hello {name}"

    assert run(app, greet, "you").value == "hello YOU"
    assert seen == ["before_start ['YOU']"]


def test_every_message_passes_it_is_made_for(app: Umbel) -> None:
    class Mark(Middleware):
        def publish(self, call: Call, next: Any) -> Message:
            call.headers["mark"] = call.headers.get("mark", 0) + 1
            return next(call)

    app.middleware.add(Mark())

    @app.task(bind=True, max_retries=1)
    def flaky(self: Any, x: int) -> int:
        if x == 0 and not self.request.retries:
            raise self.retry(countdown=0)
        return x

    group(flaky.s(1), flaky.s(2)).apply_async()
    app.send_many([flaky.s(3)])
    app.send_task("elsewhere")
    marks = [decode_headers(message.headers)["mark"] for message in app.broker.peek("celery", 9)]
    assert marks == [1, 1, 1, 1]
    app.broker.purge("celery")
    (again,) = run(app, flaky, 0).publish
    assert decode_headers(again.headers)["mark"] == 2
    (callback,) = run(app, flaky, 1, link=flaky.s()).publish
    assert decode_headers(callback.headers)["mark"] == 1


def test_what_publish_raises_is_raised_by_delay_and_nothing_is_sent(app: Umbel) -> None:
    class Refuse(Middleware):
        def publish(self, call: Call, next: Any) -> Message:
            raise PermissionError("not you")

    app.middleware.add(Refuse())

    @app.task
    def work() -> None: ...

    with pytest.raises(PermissionError, match="not you"):
        work.delay()
    assert app.broker.size("celery").ready == 0


def test_adelay_passes_publish(app: Umbel) -> None:
    app.middleware.add(Outer())

    @app.task
    def work() -> None: ...

    asyncio.run(work.adelay())
    assert seen == ["outer sends", "outer has sent"]


def test_direct_calls_pass_nothing_and_eager_ones_run_only(app: Umbel) -> None:
    app.middleware.add(Outer())

    @app.task
    def work() -> int:
        return 1

    assert work() == 1 and seen == []
    assert work.apply().get() == 1 and seen == ["outer begins", "outer ends"]


def test_members_are_given_removed_and_counted() -> None:
    outer, inner = Outer(), Inner()
    with Umbel("given", broker=f"memory://{uuid.uuid4()}", middleware=[outer]) as app:

        @app.task
        def one() -> int:
            return 1

        app.middleware.add(inner)
        assert list(app.middleware) == [outer, inner] and len(app.middleware) == 2
        assert one.apply().get() == 2
        app.middleware.remove(inner)
        assert one.apply().get() == 1
        app.middleware.remove(outer)
        assert app.middleware.publishing is None and not len(app.middleware)
        with pytest.raises(ValueError, match="not among the middlewares"):
            app.middleware.remove(outer)


def test_a_middleware_for_one_kind_of_task_fails_the_other_kind_and_says_so(app: Umbel) -> None:
    class PlainOnly(Middleware):
        def run(self, request: Request, next: Any) -> Any:
            return next(request)

    app.middleware.add(PlainOnly())

    @app.task
    async def later() -> int:
        return 1

    @app.task
    def now() -> int:
        return 1

    outcome = run(app, later)
    assert isinstance(outcome.value, ConfigurationError)
    assert "PlainOnly has run() but not arun()" in str(outcome.value) and later.name in str(outcome.value)
    assert run(app, now).value == 1


def test_what_is_no_middleware_is_refused(app: Umbel) -> None:
    class AsyncRun(Middleware):
        async def run(self, request: Request, next: Any) -> Any: ...  # type: ignore[override]

    class PlainArun(Middleware):
        def arun(self, request: Request, next: Any) -> Any: ...  # type: ignore[override]

    for wrong, words in [
        (Outer, "not the class"),
        (print, "umbel.Middleware"),
        (AsyncRun(), "run must be a plain function"),
        (PlainArun(), "arun must be a coroutine function"),
    ]:
        with pytest.raises(TypeError, match=words):
            app.middleware.add(wrong)  # type: ignore[arg-type]
    assert not len(app.middleware)


def test_publish_must_return_the_message(app: Umbel) -> None:
    class Forgets(Middleware):
        def publish(self, call: Call, next: Any) -> Message:  # type: ignore[return]
            next(call)

    app.middleware.add(Forgets())

    @app.task
    def work() -> None: ...

    with pytest.raises(TypeError, match=r"Forgets\.publish returned None"):
        work.delay()
    assert app.broker.size("celery").ready == 0
