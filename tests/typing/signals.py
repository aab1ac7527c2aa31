"""Uses of signals and middleware that a type checker must accept, and those that it must not; see ``tasks.py``."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from collections.abc import Awaitable, Callable
from typing import Any, assert_type

from umbel import Middleware, Request, Umbel
from umbel.message import Message
from umbel.middleware import Call
from umbel.signals import after_task_publish, task_prerun


@task_prerun.connect
def every(task_id: str, **kwargs: Any) -> int:
    return len(task_id)


@after_task_publish.connect(sender="proj.add", weak=False, dispatch_uid="once", retry=True)
def some(headers: dict[str, Any], **kwargs: Any) -> None: ...


assert_type(every("x"), int)
assert_type(task_prerun.disconnect(every), bool)
assert_type(task_prerun.has_listeners(), bool)
task_prerun.connect(3)  # pyright: ignore[reportArgumentType]


class Tenant(Middleware):
    def publish(self, call: Call, call_next: Callable[[Call], Message]) -> Message:
        call.headers["tenant"] = "acme"
        return call_next(call)

    async def apublish(self, call: Call, next: Callable[[Call], Awaitable[Message]]) -> Message:
        return await next(call)

    def run(self, request: Request, next: Callable[[Request], Any]) -> Any:
        return next(request)

    async def arun(self, request: Request, next: Callable[[Request], Awaitable[Any]]) -> Any:
        return await next(request)


class Wrong(Middleware):
    def publish(self, call: Call) -> Message:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise NotImplementedError

    def apublish(self, call: Call, next: Callable[[Call], Message]) -> Message:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise NotImplementedError


app = Umbel("typed", middleware=[Tenant()])
app.middleware.add(Tenant(), Tenant())
app.middleware.add(Tenant)  # pyright: ignore[reportArgumentType]
