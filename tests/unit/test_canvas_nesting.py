"""Canvases in canvases, every kind in every place of every other: they give what they say, sent and run here."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from umbel import Umbel, chain, chord, chunks, group, xmap
from umbel.brokers.base import Settlement
from umbel.execution import execute_message


def deep(values: Any) -> int:
    """The sum of all numbers in nested lists."""
    return sum(map(deep, values)) if isinstance(values, (list, tuple)) else values


@pytest.fixture(scope="module")
def app() -> Iterator[Umbel]:
    url = f"memory://{secrets.token_hex(6)}"
    with Umbel("nesting", broker=url, backend=url) as made:

        @made.task(name="total")
        def total(*values: Any) -> int:
            return deep(values)

        @made.task(name="replaced", bind=True)
        def replaced(self: Any, *values: Any) -> Any:
            one, two = made.tasks["total"].s(deep(values)), made.tasks["total"].s(1)
            return self.replace(chord([one, two], made.tasks["total"].s()))

        yield made


def singles(app: Umbel) -> list[Any]:
    total = app.tasks["total"]
    return [total.s(1), total.si(2)]


def kinds(app: Umbel, inner: Any) -> list[Any]:
    """Canvases with ``inner`` in each of their places."""
    total = app.tasks["total"]

    def one(number: int) -> Any:
        return total.s(number)

    return [
        chain(inner, one(1)),
        chain(one(1), inner),
        chain(one(1), inner, one(2), one(3)),
        chain(one(1), one(2)) | inner,
        group(inner, one(1)),
        group(one(1), inner),
        chord([inner], one(1)),
        chord([one(1), inner, one(2)], one(3)),
        chord([one(1), one(2)], inner),
    ]


def simple(app: Umbel) -> list[Any]:
    total = app.tasks["total"]
    return [
        *(kind for single in singles(app) for kind in kinds(app, single)),
        group(total.s(4)),
        xmap(total.s(), [1, 2]),
        total.starmap([(1, 2), (3, 4)]),
        chunks(total.s(), [(1, 2), (3, 4), (5, 6)], 2),
    ]


def expected(canvas: Any, given: tuple[Any, ...] = ()) -> Any:
    """What a canvas is to give, by the words of its documentation."""
    kind = canvas.subtask_type
    if kind == "chain":
        for call in canvas.tasks:
            given = (expected(call, given),)
        return given[0]
    if kind == "group":
        values: list[Any] = []
        for call in canvas.tasks:
            value = expected(call, given)
            values += value if call.subtask_type in ("group", "chunks") else [value]
        return values
    if kind == "chord":
        return expected(canvas.body, (expected(canvas.header, given),))
    if kind == "chunks":
        return expected(canvas.group())
    if kind == "xmap":
        return [deep(item) for item in canvas.kwargs["it"]]
    if kind == "xstarmap":
        return [deep(item) for item in canvas.kwargs["it"]]
    extra = 1 if canvas.task == "replaced" else 0
    return deep((() if canvas.immutable else given) + tuple(canvas.args)) + extra


def run(app: Umbel, canvases: list[Any]) -> list[Any]:
    """What they give when they are sent, all together."""
    results = [canvas.apply_async() for canvas in canvases]
    with app.broker.consumer([*app.queues().values()], name="test") as consumer:
        while deliveries := consumer.receive(1000, 0.05):
            settlements: list[Settlement] = []
            for each in deliveries:
                out = execute_message(app, each.message)
                ended = (out.action, out.delay, False, out.reason, out.result, out.publish, out.parts, out.closes)
                settlements.append(Settlement(each, *ended))
            consumer.settle(settlements)
            app.backend.close_chords([each.closes for each in settlements if each.closes])
    return [result.get(timeout=5) if result.ready() else "not done" for result in results]


def check(app: Umbel, canvases: list[Any]) -> None:
    wrong = [
        (canvas, value, expected(canvas))
        for canvas, value in zip(canvases, run(app, canvases), strict=True)
        if value != expected(canvas)
    ]
    assert not wrong, "\n".join(f"{canvas!r}: {value}, not {right}" for canvas, value, right in wrong[:10])


def test_each_kind(app: Umbel) -> None:
    check(app, simple(app))


def test_each_in_each(app: Umbel) -> None:
    check(app, [kind for inner in simple(app) for kind in kinds(app, inner)])


def test_three_deep(app: Umbel) -> None:
    two = [kind for inner in simple(app)[2::5] for kind in kinds(app, inner)]
    check(app, [kind for inner in two for kind in kinds(app, inner)])


def test_a_replaced_task_in_each_place(app: Umbel) -> None:
    inner = app.tasks["replaced"].s(5)
    check(app, [inner, *kinds(app, inner), *(kind for each in kinds(app, inner) for kind in kinds(app, each))])


def test_eager(app: Umbel) -> None:
    for canvas in [kind for inner in simple(app) for kind in kinds(app, inner)]:
        result = canvas.apply()
        assert result.get() == expected(canvas), repr(canvas)
