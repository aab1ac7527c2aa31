"""Tasks inside of middlewares, some of which can be awaited; what these saw comes back with the results.

``publish`` and ``apublish`` leave their marks in the header ``marks`` of the message, ``run`` and ``arun`` theirs in
``trail``, a context variable.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from umbel import Middleware, Request, Umbel
from umbel.message import Message
from umbel.middleware import Call

trail: ContextVar[tuple[str, ...]] = ContextVar("trail", default=())
loops: set[int] = set()
"""Of this process: where async tasks run, and where their middlewares do."""


class Outer(Middleware):
    """Holds something open around runs, turns KeyError into ValueError and refuses what is called with ``refused``."""

    def publish(self, call: Call, next: Callable[[Call], Message]) -> Message:
        call.headers["marks"] = [*call.headers.get("marks", []), "outer"]
        return next(call)

    def run(self, request: Request, next: Callable[[Request], Any]) -> Any:
        token = trail.set((*trail.get(), "outer"))
        try:
            return "refused" if request.args[:1] == ["refused"] else next(request)
        except KeyError as error:
            raise ValueError(f"no {error.args[0]}") from error
        finally:
            trail.reset(token)

    async def arun(self, request: Request, next: Callable[[Request], Awaitable[Any]]) -> Any:
        loops.add(id(asyncio.get_running_loop()))
        token = trail.set((*trail.get(), "outer"))
        try:
            return "refused" if request.args[:1] == ["refused"] else await next(request)
        except KeyError as error:
            raise ValueError(f"no {error.args[0]}") from error
        finally:
            trail.reset(token)


class Inner(Middleware):
    """Has no ``publish``: plain code runs ``apublish`` too. Makes arguments that are texts upper case."""

    async def apublish(self, call: Call, next: Callable[[Call], Awaitable[Message]]) -> Message:
        await asyncio.sleep(0.001)
        loops.add(id(asyncio.get_running_loop()))
        call.headers["marks"] = [*call.headers.get("marks", []), "inner"]
        return await next(call)

    def run(self, request: Request, next: Callable[[Request], Any]) -> Any:
        request.args = [value.upper() for value in request.args]
        trail.set((*trail.get(), "inner"))
        return next(request)

    async def arun(self, request: Request, next: Callable[[Request], Awaitable[Any]]) -> Any:
        await asyncio.sleep(0)
        request.args = [value.upper() for value in request.args]
        trail.set((*trail.get(), "inner"))
        return await next(request)


app = Umbel(
    "around",
    broker=os.environ.get("LEDGER_BROKER"),
    backend=os.environ.get("LEDGER_BACKEND"),
    middleware=[Outer(), Inner()],
)


def _seen(text: str, request: Any) -> list[Any]:
    return [text, request.headers["marks"], list(trail.get())]


@app.task(bind=True)
def look(self: Any, text: str) -> list[Any]:
    return _seen(text, self.request)


@app.task(bind=True)
async def look_async(self: Any, text: str) -> list[Any]:
    await asyncio.sleep(0)
    return _seen(text, self.request)


@app.task
def fail(text: str) -> None:
    raise KeyError(text)


@app.task
async def fail_async(text: str) -> None:
    await asyncio.sleep(0)
    raise KeyError(text)


@app.task
def send(text: str) -> str:
    """Sends ``look`` from plain code; its id."""
    return look.delay(text).id


@app.task
async def send_async(text: str) -> str:
    """Sends ``look`` from async code; its id."""
    return (await look.adelay(text)).id


@app.task
async def send_plainly(text: str) -> str:
    """Sends ``look`` from plain code that async code calls; its id."""
    return look.delay(text).id


@app.task(bind=True, default_retry_delay=0)
def again(self: Any, text: str) -> list[Any]:
    """Ends at its second try."""
    if not self.request.retries:
        raise self.retry()
    return _seen(text, self.request)


@app.task(bind=True, autoretry_for=(OSError,), default_retry_delay=0)
async def again_async(self: Any, text: str) -> list[Any]:
    """Ends at its second try."""
    if not self.request.retries:
        raise OSError
    return _seen(text, self.request)


@app.task
async def count_loops() -> int:
    return len(loops)
