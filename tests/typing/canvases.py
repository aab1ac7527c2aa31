"""Canvases that a type checker must accept, and, marked as errors expected, links that do not fit.

Checked by tests/unit/test_task_typing.py: a mark that pyright finds unnecessary is an error too.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnusedExpression=false

from typing import Any, assert_type

from umbel import AsyncResult, Signature, Task, Umbel, chain, chord, group

app = Umbel("typed")


@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task
def scale(number: int, factor: int, offset: int) -> int:
    return number * factor + offset


@app.task
def shout(text: str) -> str:
    return text.upper()


@app.task
def show(number: int) -> str:
    return str(number)


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def nothing() -> int:
    return 1


@app.task(bind=True)
def bound(self: Task[..., Any], number: int) -> str:
    return str(number)


@app.task
async def fetch(url: str) -> bytes:
    return url.encode()


@app.task
def anything(*args: Any, **kwargs: Any) -> None: ...


# -- single calls --

assert_type(add.s(), Signature[[int], int])
assert_type(add.s(1), Signature[[int], int])
assert_type(add.s(1, 2), Signature[[], int])
assert_type(add.s(y=2), Signature[[int], int])
assert_type(scale.s(2), Signature[[int, int], int])
assert_type(scale.s(2, 3), Signature[[int], int])
assert_type(nothing.s(), Signature[[], int])
assert_type(fetch.s(), Signature[[str], bytes])
assert_type(bound.s(), Signature[[int], str])
assert_type(add.si(1, 2), Signature[..., int])
assert_type(add.s(1).delay(2), AsyncResult[int])
assert_type(add.s(1).apply_async((2,)).get(), int)
assert_type(~add.s(1, 2), int)
assert_type(add.s(1, 2).set(queue="q"), Signature[[], int])
assert_type(add.s(1, 2).set(immutable=True), Signature[..., int])
assert_type(add.s(1).stamp(tenant="acme"), Signature[[int], int])

# -- links that fit --

assert_type(add.s(1, 2) | show.s() | shout.s(), chain[[], str])
assert_type(add.s(1) | scale.s(2, 3), chain[[int], int])
assert_type(~(add.s(1, 2) | show.s()), str)
assert_type((add.s(1, 2) | show.s()).apply_async(), AsyncResult[str])
assert_type(chain(add.s(1, 2), show.s(), shout.s()), chain[[], str])
assert_type(chain(add.s(1, 2), bound.s()), chain[[], str])
add.s(1, 2) | nothing.si() | show.s()
add.s(1, 2) | anything.s()
chain([add.s(1, 2), show.s()]).delay()
chain(show.s(1), fetch.s(), anything.s(), nothing.si(), show.s(), shout.s())

# -- groups and chords --

assert_type(group(add.s(n, n) for n in range(3)), group[[], int])
assert_type(group([add.s(1, 1), add.s(2, 2)]) | total.s(), chord[[], int])
assert_type(chord([add.s(1, 1), add.s(2, 2)], total.s()), chord[[], int])
assert_type(chord((add.s(n, n) for n in range(3)), total.s()).apply_async().get(), int)
assert_type(~(group(add.s(1, 1), add.s(2, 2)) | total.s() | show.s()), str)
show.s(1) | group(shout.s(), shout.s())
group(add.s(1, 1), shout.s("x"), nothing.s()).delay()
chord([add.s(1, 1), shout.s("x")], anything.s())
chord(add.chunks([(1, 1)], 1), anything.s())
add.s(1, 2) | group(add.s(1), add.s(2)) | total.s()

# -- links that do not fit --

add.s(1, 2) | shout.s()  # pyright: ignore[reportOperatorIssue]
add.s(1, 2) | nothing.s()  # pyright: ignore[reportOperatorIssue]
add.s(1, 2) | show.s() | add.s(1)  # pyright: ignore[reportOperatorIssue]
add.s(1, 2) | scale.s(1)  # pyright: ignore[reportOperatorIssue]
show.s(1) | group(add.s(), add.s(1))  # pyright: ignore[reportOperatorIssue]
group(add.s(1, 1), add.s(2, 2)) | shout.s()  # pyright: ignore[reportOperatorIssue]
chain(add.s(1, 2), shout.s())  # pyright: ignore
chain(show.s(1), shout.s(), add.s(1))  # pyright: ignore
chord([add.s(1, 1), add.s(2, 2)], shout.s())  # pyright: ignore
add.s(1, 2) | 3  # pyright: ignore[reportOperatorIssue]
text: str = (add.s(1, 2) | show.s() | fetch.s()).delay().get()  # pyright: ignore[reportAssignmentType]
