"""Uses of tasks that a type checker must accept, and, marked as errors expected, those that it must not.

Checked by tests/unit/test_task_typing.py: a mark that pyright finds unnecessary is an error too.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnusedExpression=false, reportUnusedCoroutine=false

from typing import Any, assert_type

from umbel import AsyncResult, EagerResult, Task, Umbel, shared_task
from umbel.canvas.signature import Signature

app = Umbel("typed")


@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task(bind=True, max_retries=5, autoretry_for=(OSError,))
def bound(self: Task[..., Any], name: str, *, loud: bool = False) -> str:
    self.progress(1, 2)
    assert_type(self.request.retries, int)
    return name.upper() if loud else name


@app.task(name="renamed", queue="media")
def renamed(x: float) -> list[float]:
    return [x]


@app.task
async def fetch(url: str) -> bytes:
    return url.encode()


@app.task(bind=True)
async def bound_fetch(self: Task[..., Any], url: str) -> bytes:
    return url.encode()


@shared_task
def shared(x: int) -> str:
    return str(x)


@shared_task(bind=True)
def shared_bound(self: Task[..., Any], x: int) -> str:
    return str(x)


# -- what must check -------------------------------------------------------------------------------

assert_type(add(2, 2), int)
assert_type(add.delay(2), AsyncResult[int])
assert_type(add.delay(2, y=3).get(), int)
assert_type(add.apply_async((2, 2), countdown=5, queue="q", priority=3), AsyncResult[int])
assert_type(add.apply((2, 2)), EagerResult[int])
assert_type(add.apply((2, 2)).get(), int)
assert_type(add.s(1), Signature[[int], int])
assert_type(add.AsyncResult("id").get(timeout=1), int)
assert_type(bound("x", loud=True), str)
assert_type(bound.delay("x", loud=True).get(), str)
assert_type(renamed.delay(1.5).get(), list[float])
assert_type(fetch.delay("u").get(), bytes)
assert_type(bound_fetch.delay("u").get(), bytes)
assert_type(shared.delay(1).get(), str)
assert_type(shared_bound.delay(1).get(), str)
assert_type(shared(1), str)


async def client() -> None:
    result = await add.adelay(1, 2)
    assert_type(result, AsyncResult[int])
    assert_type(await result, int)
    assert_type(await result.aget(timeout=1), int)
    assert_type(await fetch("u"), bytes)
    assert_type(await (await fetch.adelay("u")), bytes)
    assert_type(await bound_fetch("u"), bytes)
    assert_type(await add.s(1).adelay(2), AsyncResult[int])
    await add.adelay("1")  # pyright: ignore[reportArgumentType]


class Counter(Task[[int], int]):
    def run(self, by: int) -> int:
        return by


counter = app.register_task(Counter)
assert_type(counter.delay(2).get(), int)

# -- what must not ---------------------------------------------------------------------------------

add.delay("x")  # pyright: ignore[reportArgumentType]
add.delay()  # pyright: ignore[reportCallIssue]
add.delay(1, 2, 3)  # pyright: ignore[reportCallIssue]
add.delay(1, z=2)  # pyright: ignore[reportCallIssue]
add("x")  # pyright: ignore[reportArgumentType]
add.si("x")  # pyright: ignore[reportArgumentType]
add.apply_async((1,), coutdown=5)  # pyright: ignore[reportCallIssue]
add.apply_async((1,), priority="high")  # pyright: ignore[reportArgumentType]
bound.delay(1)  # pyright: ignore[reportArgumentType]
bound.delay("x", True)  # pyright: ignore[reportCallIssue]
renamed.delay("x")  # pyright: ignore[reportArgumentType]
fetch.delay(1)  # pyright: ignore[reportArgumentType]
shared.delay("x")  # pyright: ignore[reportArgumentType]
shared_bound.delay("x")  # pyright: ignore[reportArgumentType]
counter.delay("x")  # pyright: ignore[reportArgumentType]
text: str = add.delay(1).get()  # pyright: ignore[reportAssignmentType]
