"""Uses of results that a type checker must accept, and, marked as errors expected, those that it must not.

Checked by tests/unit/test_task_typing.py: a mark that pyright finds unnecessary is an error too.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnusedExpression=false, reportUnusedCoroutine=false

import datetime
from typing import Any, assert_type

from umbel import AsyncResult, EagerResult, GroupResult, ResultSet, Umbel, allow_join_result
from umbel.result import Promise, ResultBase, result_from_tuple

app = Umbel("typed")


@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


# -- one -------------------------------------------------------------------------------------------

result = add.delay(1, 2)
assert_type(result.get(), int)
assert_type(result.wait(timeout=1), int)
assert_type(result.get(timeout=1.5, propagate=False, progress=True, on_interval=lambda: None), int)
assert_type(result.then(lambda done: done.get()), Promise)
assert_type(result.state, str)
assert_type(result.date_done, datetime.datetime | None)
assert_type(result.traceback, str | None)
assert_type(result.as_list(), list[str])
assert_type(result.children, list[AsyncResult[Any] | GroupResult[Any]] | None)
assert_type(result.parent, AsyncResult[Any] | GroupResult[Any] | None)
assert_type(result.exists(), bool)
assert_type(add.apply((1, 2)), EagerResult[int])
assert_type(add.apply((1, 2)).get(disable_sync_subtasks=False), int)
base: ResultBase = result

# -- many ------------------------------------------------------------------------------------------

results: ResultSet[int] = ResultSet([result])
assert_type(results.get(), list[int])
assert_type(results.join(timeout=1, callback=lambda task_id, value: None, progress=True), list[int])
assert_type(results.join_native(on_interval=lambda: None), list[int])
assert_type(list(results.iterate()), list[int])
assert_type(results.completed_count(), int)
group = GroupResult[int]("id", [result])
assert_type(group.get(), list[int])
assert_type(GroupResult("id").get(), list[Any])
assert_type(GroupResult.restore("id"), GroupResult[Any] | None)
assert_type(result_from_tuple((("id", None), None)), AsyncResult[Any] | GroupResult[Any])

with allow_join_result():
    result.get()


async def client() -> None:
    assert_type(await result, int)
    assert_type(await group, list[int])
    assert_type(await group.aget(timeout=1), list[int])
    async for member in group:
        assert_type(member, AsyncResult[int])
        assert_type(await member, int)


# -- what must not ---------------------------------------------------------------------------------

text: str = result.get()  # pyright: ignore[reportAssignmentType]
texts: list[str] = group.get()  # pyright: ignore[reportAssignmentType]
result.get(timeout="soon")  # pyright: ignore[reportArgumentType]
result.get(progres=True)  # pyright: ignore[reportCallIssue]
results.get(on_message=print, intervall=1)  # pyright: ignore[reportCallIssue]
result.id = 1  # pyright: ignore[reportAttributeAccessIssue]
