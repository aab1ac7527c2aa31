"""Middleware with ``apublish``: in whose event loop it is awaited, from async code and from plain code."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from umbel import Middleware, Umbel, chain, chord, group
from umbel.execution import execute_async, execute_message, read_call
from umbel.message import Message, decode_headers
from umbel.middleware import Call

seen: list[str] = []
loops: list[asyncio.AbstractEventLoop] = []
tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


class Plain(Middleware):
    def __init__(self, name: str = "plain") -> None:
        self.name = name

    def publish(self, call: Call, next: Any) -> Message:
        seen.append(f"{self.name} sends for {tenant.get()}")
        message = next(call)
        seen.append(f"{self.name} has sent")
        return message


class Awaited(Middleware):
    def __init__(self, name: str = "awaited") -> None:
        self.name = name

    async def apublish(self, call: Call, next: Any) -> Message:
        loops.append(asyncio.get_running_loop())
        seen.append(f"{self.name} sends for {tenant.get()}")
        await asyncio.sleep(0)
        call.headers["mark"] = call.headers.get("mark", 0) + 1
        message = await next(call)
        seen.append(f"{self.name} has sent")
        return message


class Both(Plain, Awaited):
    """Of either kind as it is asked for."""


@pytest.fixture
def app() -> Iterator[Umbel]:
    seen.clear()
    loops.clear()
    with Umbel("mid", broker=f"memory://{uuid.uuid4()}", backend=f"memory://{uuid.uuid4()}") as made:

        @made.task(name="add")
        def add(x: int = 0, y: int = 0) -> int:
            return x + y

        @made.task(name="total")
        def total(numbers: list[int]) -> int:
            return sum(numbers)

        yield made


def waiting(app: Umbel) -> list[Message]:
    messages = app.broker.peek("celery", 99)
    app.broker.purge("celery")
    return messages


def marks(messages: Any) -> list[int]:
    return [decode_headers(message.headers)["mark"] for message in messages]


SENDERS: dict[str, tuple[int, Callable[[Umbel], Any]]] = {
    "adelay": (1, lambda app: app.tasks["add"].adelay(1, 2)),
    "aapply_async": (1, lambda app: app.tasks["add"].aapply_async((1, 2), countdown=0)),
    "asend_task": (1, lambda app: app.asend_task("elsewhere")),
    "asend_many": (2, lambda app: app.asend_many([app.tasks["add"].s(1), app.tasks["add"].s(2)])),
    "a signature": (1, lambda app: app.tasks["add"].s(1, 2).adelay()),
    "one of a task that is not known here": (1, lambda app: app.signature("elsewhere").aapply_async()),
    "a chain": (1, lambda app: chain(app.tasks["add"].s(1, 2), app.tasks["add"].s(3)).aapply_async()),
    "a group": (3, lambda app: group(app.tasks["add"].s(n) for n in range(3)).aapply_async()),
    "a chord": (2, lambda app: chord([app.tasks["add"].s(1), app.tasks["add"].s(2)], app.tasks["total"].s()).adelay()),
    "chunks": (2, lambda app: app.tasks["add"].chunks([(1, 2), (3, 4)], 1).aapply_async()),
}


@pytest.mark.parametrize("kind", [Awaited, Both])
@pytest.mark.parametrize("how", SENDERS)
def test_async_code_awaits_it_in_its_own_loop(app: Umbel, how: str, kind: type[Middleware]) -> None:
    app.middleware.add(kind(how))
    count, send = SENDERS[how]

    async def main() -> Any:
        tenant.set("acme")
        sent = await send(app)
        assert loops == [asyncio.get_running_loop()] * len(loops)
        return sent

    assert asyncio.run(main())
    assert marks(waiting(app)) == [1] * count
    assert seen[:2] == [f"{how} sends for acme", f"{how} has sent"] and len(loops) >= count


def test_what_is_sent_is_what_the_caller_gets(app: Umbel) -> None:
    app.middleware.add(Awaited())

    async def main() -> list[Any]:
        many = await app.asend_many([app.tasks["add"].s(1), app.tasks["add"].s(2)])
        whole = await group(app.tasks["add"].s(3)).aapply_async()
        return [*many, *whole.results]

    assert [result.id for result in asyncio.run(main())] == [message.id for message in waiting(app)]


@pytest.mark.parametrize(
    "members",
    [
        [Plain("a"), Plain("b")],
        [Awaited("a"), Awaited("b")],
        [Both("a"), Both("b")],
        [Awaited("a"), Plain("b")],
        [Plain("a"), Awaited("b")],
        [Plain("a"), Awaited("b"), Plain("c"), Both("d")],
    ],
    ids=lambda members: "-".join(type(each).__name__ for each in members),
)
@pytest.mark.parametrize("how", ["async code", "plain code", "plain code in a loop"])
def test_the_first_added_is_the_outermost_whatever_their_kinds(app: Umbel, members: Any, how: str) -> None:
    app.middleware.add(*members)
    add = app.tasks["add"]

    async def main() -> None:
        token = tenant.set("acme")
        try:
            await (add.adelay() if how == "async code" else asyncio.sleep(0, add.delay()))
        finally:
            tenant.reset(token)

    if how == "plain code":
        token = tenant.set("acme")
        add.delay()
        tenant.reset(token)
    else:
        asyncio.run(main())
    names = [each.name for each in members]
    assert seen == [f"{n} sends for acme" for n in names] + [f"{n} has sent" for n in reversed(names)]
    assert len(waiting(app)) == 1


def test_what_the_outer_ones_set_is_seen_by_the_inner_ones(app: Umbel) -> None:
    class Outer(Middleware):
        async def apublish(self, call: Call, next: Any) -> Message:
            token = tenant.set("outer")
            try:
                return await next(call)
            finally:
                tenant.reset(token)

    class Middle(Middleware):
        def publish(self, call: Call, next: Any) -> Message:
            tenant.set(f"{tenant.get()} middle")
            return next(call)

    app.middleware.add(Outer(), Middle(), Awaited("inner"))

    async def main() -> str:
        await app.tasks["add"].adelay()
        return tenant.get()

    assert asyncio.run(main()) == "nobody"
    assert seen[0] == "inner sends for outer middle"


def test_the_loop_goes_on_while_a_plain_one_waits_for_an_inner_one(app: Umbel) -> None:
    """The outer one is called in a thread, and what it awaits needs the loop and its threads."""

    class Asks(Middleware):
        async def apublish(self, call: Call, next: Any) -> Message:
            assert await asyncio.to_thread(threading.get_ident) != threading.get_ident()
            return await next(call)

    app.middleware.add(Plain(), Asks())

    async def main() -> None:
        await asyncio.gather(*(app.tasks["add"].adelay() for _ in range(50)))

    asyncio.run(asyncio.wait_for(main(), 30))
    assert len(waiting(app)) == 50


@pytest.mark.parametrize("how", ["adelay", "a group", "asend_many"])
def test_what_it_raises_the_sender_gets_and_nothing_is_sent(app: Umbel, how: str) -> None:
    class Refuse(Middleware):
        async def apublish(self, call: Call, next: Any) -> Message:
            await asyncio.sleep(0)
            raise PermissionError("not you")

    app.middleware.add(Plain(), Refuse())
    with pytest.raises(PermissionError, match="not you"):
        asyncio.run(SENDERS[how][1](app))
    with pytest.raises(PermissionError, match="not you"):
        app.tasks["add"].delay()
    assert waiting(app) == []


def test_errors_from_inside_pass_and_everything_of_a_call_may_be_changed(app: Umbel) -> None:
    class Change(Middleware):
        async def apublish(self, call: Call, next: Any) -> Message:
            try:
                return await next(call)
            except TypeError:
                call.args = [10]
                call.kwargs["y"] = 5
                call.options = {"priority": 7}
                return await next(call)

    app.middleware.add(Change())
    args, kwargs = [1], {"y": 1}
    asyncio.run(app.asend_task("add", args, kwargs, nonsense=1))
    (message,) = waiting(app)
    assert message.priority == 7 and execute_message(app, message).value == 15
    assert (args, kwargs) == ([1], {"y": 1})


def test_wrong_arguments_are_refused_before_it(app: Umbel) -> None:
    app.middleware.add(Awaited())
    with pytest.raises(TypeError, match="args must be a list or tuple, not str"):
        asyncio.run(app.asend_task("add", "12"))
    with pytest.raises(TypeError, match="kwargs must be a mapping, not list"):
        asyncio.run(app.asend_task("add", (), [1]))  # type: ignore[arg-type]
    assert seen == []


def test_a_sender_that_is_cancelled_cancels_it(app: Umbel) -> None:
    begun = asyncio.Event()

    class Waits(Middleware):
        async def apublish(self, call: Call, next: Any) -> Message:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise
            raise AssertionError

    app.middleware.add(Waits())

    async def main(send: Callable[[Umbel], Any]) -> None:
        begun.clear()
        sending = asyncio.ensure_future(send(app))
        await begun.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

    async def both() -> None:
        for how in ("adelay", "a group"):
            await asyncio.wait_for(main(SENDERS[how][1]), 10)

    asyncio.run(both())
    assert seen == ["cancelled", "cancelled"] and waiting(app) == []


def test_plain_code_uses_publish_where_there_is_both(app: Umbel) -> None:
    app.middleware.add(Both())
    app.tasks["add"].delay()
    assert loops == [] and seen == ["plain sends for nobody", "plain has sent"]


@pytest.mark.parametrize("kind", [Awaited, Both])
def test_what_follows_an_async_task_is_awaited_in_the_loop_of_the_task(app: Umbel, kind: type[Middleware]) -> None:
    @app.task(bind=True, name="flaky", autoretry_for=(KeyError,), default_retry_delay=0)
    async def flaky(self: Any, fail: bool) -> int:
        await asyncio.sleep(0)
        if fail:
            raise KeyError("x")
        return 1

    app.middleware.add(kind())

    async def main() -> None:
        for options in ({}, {"link": app.tasks["add"].s(1)}):
            await flaky.aapply_async((not options,), **options)
            (message,) = waiting(app)
            loops.clear()
            outcome = await execute_async(app, *read_call(app, message))
            assert outcome.state == ("SUCCESS" if options else "RETRY")
            assert len(outcome.publish) == 1 and loops == [asyncio.get_running_loop()]

    asyncio.run(main())


def test_the_error_of_a_task_keeps_its_cause(app: Umbel) -> None:
    app.middleware.add(Awaited())

    @app.task(autoretry_for=(ValueError,), max_retries=0)
    async def fail() -> None:
        raise ValueError("outer") from KeyError("inner")

    async def main() -> None:
        await fail.adelay()
        (message,) = waiting(app)
        outcome = await execute_async(app, *read_call(app, message))
        assert outcome.state == "FAILURE" and isinstance(outcome.value.__cause__, KeyError)

    asyncio.run(main())


def test_apublish_must_be_a_coroutine_function_that_returns_the_message(app: Umbel) -> None:
    class Plainly(Middleware):
        def apublish(self, call: Call, next: Any) -> Any: ...  # type: ignore[override]

    class AsyncPublish(Middleware):
        async def publish(self, call: Call, next: Any) -> Any: ...  # type: ignore[override]

    class Forgets(Middleware):
        async def apublish(self, call: Call, next: Any) -> Message:  # type: ignore[return]
            await next(call)

    with pytest.raises(TypeError, match=r"Plainly\.apublish must be a coroutine function"):
        app.middleware.add(Plainly())
    with pytest.raises(TypeError, match=r"publish must be a plain function; the coroutine function is apublish"):
        app.middleware.add(AsyncPublish())
    app.middleware.add(Forgets())
    with pytest.raises(TypeError, match=r"Forgets\.apublish returned None"):
        asyncio.run(app.tasks["add"].adelay())
    assert waiting(app) == []


def test_plain_code_of_a_fork_has_a_loop_of_its_own(app: Umbel) -> None:
    app.middleware.add(Awaited())
    app.tasks["add"].delay()
    if (child := os.fork()) == 0:
        try:
            app.tasks["add"].delay()
            os._exit(0 if len(loops) == 2 and loops[0] is not loops[1] else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    app.tasks["add"].delay()
    assert len(loops) == 2 and loops[0] is loops[1]


def test_without_it_async_code_pays_for_nothing(app: Umbel) -> None:
    app.middleware.add(Plain())
    assert app.middleware.apublishing is None
    both = Both()
    app.middleware.add(both)
    assert app.middleware.apublishing is not None
    app.middleware.remove(both)
    assert app.middleware.apublishing is None
