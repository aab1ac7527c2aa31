"""Canvases as data: how they are composed, copied, frozen and written, and what is refused."""

from __future__ import annotations

import base64
import json
import os
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from umbel import Umbel, chain, chord, chunks, group, signature, xmap
from umbel.brokers.base import Settlement
from umbel.codecs import dumps, loads
from umbel.errors import ChordError, InvalidCanvas
from umbel.execution import execute_message
from umbel.message import Message, new_id, read_message


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Umbel]:
    monkeypatch.delenv("UMBEL_VECTORS", raising=False)
    name = new_id()
    made = Umbel("canvas", broker=f"memory://{name}", backend=f"memory://{name}")

    @made.task(name="wire.add")
    def add(x: int, y: int) -> int:
        return x + y

    @made.task(name="wire.total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @made.task(name="wire.boom")
    def boom(*args: Any) -> None:
        raise ValueError("boom")

    @made.task(name="wire.errback")
    def errback(task_id: str) -> None: ...

    yield made
    made.close()


def call(app: Umbel, name: str, *args: Any, **options: Any) -> Any:
    return app.signature(f"wire.{name}", args, options=options)


def drain(app: Umbel, seen: list[Message] | None = None) -> None:
    """Run everything that is in the queues."""
    with app.broker.consumer([*app.queues().values()], name="test") as consumer:
        while deliveries := consumer.receive(100, 0.02):
            for delivery in deliveries:
                if seen is not None:
                    seen.append(delivery.message)
                out = execute_message(app, delivery.message)
                ended = Settlement(
                    delivery, out.action, out.delay, False, out.reason, out.result, out.publish, out.parts, out.closes
                )
                assert not consumer.settle([ended]).stale
                if out.closes:
                    app.backend.close_chords([out.closes])


def run(app: Umbel, canvas: Any) -> Any:
    result = canvas.apply_async()
    drain(app)
    return result.get(timeout=5)


def shapes(app: Umbel) -> list[tuple[Any, Any]]:
    def add(*args: int) -> Any:
        return call(app, "add", *args)

    total = call(app, "total")
    return [
        (chain(add(1, 2), add(3)), 6),
        (group(add(1, 1), add(2, 2)), [2, 4]),
        (group(group(add(1, 1), add(2, 2)), add(3, 3)), [2, 4, 6]),
        (chord([add(1, 1), add(2, 2)], total), 6),
        (chord([chain(add(1, 1), add(1)), chord([add(2, 2)], total)], total), 7),
        (add(1, 1) | group(add(1), add(2)) | total | add(10), 17),
        (chunks(add(), [(1, 1), (2, 2), (3, 3)], 2), [[2, 4], [6]]),
        (xmap(total, [[1], [2, 3]]), [1, 5]),
        (app.tasks["wire.add"].starmap([(1, 2)]), [3]),
        (chain(add(1, 1)), 2),
        (group(add(1, 1)), [2]),
        (group(), []),
        (chord([], total), 0),
    ]


def test_all_shapes_run_as_made_pickled_and_read_from_json(app: Umbel) -> None:
    app.set_current()
    for shape, expected in shapes(app):
        body = dumps(shape, "json").body
        from_json = signature(loads(body, "application/json", "utf-8", app.accept(), None), app=app)
        assert json.loads(dumps(from_json, "json").body) == json.loads(body)
        assert type(from_json) is type(shape)
        pickled = pickle.loads(pickle.dumps(shape))
        assert pickled == shape
        for each in (shape, pickled, from_json, shape.clone()):
            assert run(app, each) == expected, repr(shape)


def test_eager_canvases(app: Umbel) -> None:
    app.conf.task_always_eager = True
    for shape, expected in shapes(app):
        assert shape.apply_async().get() == expected, repr(shape)


def test_sending_changes_nothing_of_a_canvas(app: Umbel) -> None:
    for shape, _ in shapes(app):
        before = dumps(shape, "json").body
        shape.apply_async()
        assert dumps(shape, "json").body == before


def test_partial_and_immutable(app: Umbel) -> None:
    immutable = app.signature("wire.add", (5, 5), immutable=True)
    assert run(app, chain(call(app, "add", 1, 1), immutable)) == 10
    assert run(app, chain(call(app, "add", 1), call(app, "add", 1)).clone((1,))) == 3
    assert run(app, chord([call(app, "add", 1), call(app, "add", 2)], call(app, "total")).clone((10,))) == 23


def test_freeze_gives_the_ids_under_which_it_runs(app: Umbel) -> None:
    whole = chord([call(app, "add", 1, 1), call(app, "add", 2, 2)], call(app, "total") | call(app, "add", 1))
    result = whole.freeze()
    header = result.parent.parent
    sent = whole.apply_async()
    assert (sent.id, sent.parent.parent.id) == (result.id, header.id)
    assert [r.id for r in sent.parent.parent.results] == [r.id for r in header.results]
    drain(app)
    assert sent.get(timeout=5) == 7
    assert header.get(timeout=5) == [2, 4]


def test_a_failure_reaches_everything_that_waits_for_it(app: Umbel) -> None:
    boom, add, total = call(app, "boom"), call(app, "add", 1), call(app, "total")
    result = chain(call(app, "add", 1, 1), boom, add, add).apply_async()
    inner = chord([call(app, "add", 1, 1), chain(boom, add)], total)
    outer = chord([inner, call(app, "add", 1, 1)], total | add).apply_async()
    seen: list[Message] = []
    failing = chord([boom, boom], total.clone().on_error(call(app, "errback"))).apply_async()
    drain(app, seen)
    with pytest.raises(ValueError, match="boom"):
        result.get(timeout=5)
    for chorded in (outer, failing):
        with pytest.raises(ChordError, match="Dependency"):
            chorded.get(timeout=5)
    assert [message.task for message in seen].count("wire.errback") == 1


def test_a_long_chain_is_linear(app: Umbel) -> None:
    links = [call(app, "add", 1, 1), *(call(app, "add", 1) for _ in range(9_999))]
    result = chain(links).apply_async()
    (first,) = app.broker.peek("celery")
    assert len(first.body) < 40_000
    seen: list[Message] = []
    drain(app, seen)
    assert result.get(timeout=5) == 10_001
    assert max(len(message.body) for message in seen) < 40_000


def test_a_large_group_and_chord(app: Umbel) -> None:
    assert len(group(call(app, "add", 1, 1) for _ in range(20_000)).apply_async().results) == 20_000
    app.broker.purge("celery")
    assert run(app, chord([call(app, "add", i, 0) for i in range(5_000)], call(app, "total"))) == sum(range(5_000))


def test_what_cannot_run_is_refused_at_the_call(app: Umbel) -> None:
    add, total = call(app, "add", 1, 1), call(app, "total")
    cyclic = chain(add)
    cyclic.tasks = [add, cyclic]
    deep: Any = add
    for _ in range(100):
        deep = chord([deep], total)
    ignoring = call(app, "add", 1, 1, ignore_result=True)
    for broken in (cyclic, deep, chain(), chord([add]), chord([ignoring], total)):
        with pytest.raises(InvalidCanvas):
            broken.apply_async()
    with pytest.raises(InvalidCanvas, match="signatures"):
        chain(add, app.tasks["wire.add"])
    with pytest.raises(InvalidCanvas):
        chunks(add, [], 0)
    without = Umbel("none", broker="memory://none", set_as_current=False)
    without.conf.result_backend = "disabled://"
    with pytest.raises(InvalidCanvas, match="result_backend"):
        chord([without.signature("a")], without.signature("b"), app=without).apply_async()


ROOT = Path(__file__).parents[2]
VECTORS = Path(os.environ.get("UMBEL_VECTORS") or ROOT.parent / "shared" / "wire" / "vectors") / "redis_messages.json"


@pytest.mark.skipif(not VECTORS.is_file(), reason="no golden vectors: set UMBEL_VECTORS to their directory")
def test_canvases_are_written_as_celery_writes_them(app: Umbel) -> None:
    """The same bodies as in the golden vectors, but for ids, and with the chord's size beside Celery's own keys."""
    app.conf.mixed_fleet = True
    add, total = (lambda *args: call(app, "add", *args)), call(app, "total")
    made = {
        "chain": chain(add(1, 2), add(3), add(4)),
        "chain_with_group_tail": chain(add(1, 2), group(add(3), add(4))),
        "chain_with_chord_inside": chain(add(1, 2), chord([add(3), add(4)], total)),
        "chord": chord([add(1, 1), add(2, 2)], total),
        "chunks": chunks(call(app, "add"), [(1, 2), (3, 4), (5, 6)], 2),
        "group": group(add(1, 1), add(2, 2), add(3, 3)),
        "map": xmap(call(app, "add"), [1, 2]),
    }
    scenarios = json.loads(VECTORS.read_text())["scenarios"]
    for name, canvas in made.items():
        messages, _ = canvas.messages(app)
        theirs = [item["envelope"] for item in scenarios[name]["messages"]]
        theirs.sort(key=lambda envelope: envelope["headers"]["group_index"] or 0)
        assert len(messages) == len(theirs), name
        for message, envelope in zip(messages, theirs, strict=True):
            expected = json.loads(base64.b64decode(envelope["body"]))
            assert _shape(json.loads(message.body)) == _shape(expected), name
            headers = json.dumps(envelope["headers"]).encode()
            received = read_message(headers, json.dumps(expected).encode(), queue="celery")
            ours, theirs_out = (execute_message(app, each) for each in (message, received))
            assert (ours.state, repr(ours.value)) == (theirs_out.state, repr(theirs_out.value)), name
            sent = [[_shape(json.loads(m.body)) for m in out.publish] for out in (ours, theirs_out)]
            assert sent[0] == sent[1], name


UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _shape(value: Any) -> Any:
    """Without what is random or None, and without the size that only Umbel writes."""
    if isinstance(value, dict):
        ids = ("task_id", "reply_to", "group_id")
        kept = {key: _shape(item) for key, item in value.items() if item is not None and key != "chord_size"}
        return {key: ("id" if key in ids else item) for key, item in kept.items()}
    if isinstance(value, str) and UUID.fullmatch(value):
        return "id"
    return [_shape(item) for item in value] if isinstance(value, list) else value
