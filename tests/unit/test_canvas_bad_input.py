"""What cannot run is refused at the call, with an error that says why, and nothing of it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from umbel import Umbel, chain, chord, chunks, group, signature, xmap
from umbel.canvas.checking import DEEPEST
from umbel.errors import EncodeError, InvalidCanvas, InvalidTaskError, UmbelError
from umbel.message import new_id


@pytest.fixture
def app() -> Iterator[Umbel]:
    name = new_id()
    made = Umbel("refusing", broker=f"memory://{name}", backend=f"memory://{name}")

    @made.task(name=f"{__name__}.add")
    def add(x: int, y: int) -> int:
        return x + y

    @made.task(name=f"{__name__}.total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @made.task(name=f"{__name__}.silent", ignore_result=True)
    def silent() -> None: ...

    yield made
    made.close()


def task(app: Umbel, name: str, *args: Any, **options: Any) -> Any:
    return app.signature(f"{__name__}.{name}", args, options=options)


def refused(app: Umbel, send: Callable[[], Any], match: str, error: type[UmbelError] = InvalidCanvas) -> None:
    with pytest.raises(error, match=match):
        send()
    size = app.broker.size("celery")
    assert (size.ready, size.delayed) == (0, 0), "something was sent"


# -- canvases that contain themselves --


def test_a_group_in_itself(app: Umbel) -> None:
    whole = group(task(app, "add", 1, 1), task(app, "add", 2, 2))
    whole.tasks.append(whole)
    refused(app, whole.apply_async, "a group contains itself")
    refused(app, chain(task(app, "add", 1, 1), whole).apply_async, "a group contains itself")
    refused(app, chord(whole, task(app, "total")).apply_async, "a group contains itself")
    refused(app, chain(whole, task(app, "total")).apply_async, "a group contains itself")


def test_a_chain_in_itself(app: Umbel) -> None:
    whole = chain(task(app, "add", 1, 1), task(app, "add", 1))
    whole.tasks.append(group(whole))
    refused(app, whole.apply_async, "contains itself")


def test_a_chord_that_is_its_own_body(app: Umbel) -> None:
    whole = chord([task(app, "add", 1, 1)], task(app, "total"))
    whole.body = chain(task(app, "total"), whole)
    refused(app, whole.apply_async, "contains itself")


def test_a_task_linked_to_itself(app: Umbel) -> None:
    for option in ("link", "link_error"):
        call = task(app, "add", 1, 1)
        call.options[option] = [call]
        refused(app, call.apply_async, "itself", UmbelError)
        refused(app, group(call, task(app, "add", 2, 2)).apply_async, "itself", UmbelError)
        refused(app, chain(task(app, "add", 1, 1), call).apply_async, "itself", UmbelError)
        refused(app, chord([call], task(app, "total")).apply_async, "itself", UmbelError)


def test_arguments_that_contain_themselves(app: Umbel) -> None:
    numbers: list[Any] = [1]
    numbers.append(numbers)
    refused(app, group(task(app, "total", numbers)).apply_async, "contains itself", EncodeError)
    refused(app, chain(task(app, "add", 1, 1), task(app, "total", numbers)).apply_async, "itself", UmbelError)


def test_the_same_call_twice_is_no_cycle(app: Umbel) -> None:
    call = task(app, "add", 1, 1)
    group(call, chain(call, task(app, "add", 1)), call).apply_async()
    assert app.broker.size("celery").ready == 3


def test_too_deep(app: Umbel) -> None:
    whole: Any = task(app, "add", 1, 1)
    for _ in range(DEEPEST + 1):
        whole = group([whole, task(app, "add", 1, 1)])
    refused(app, whole.apply_async, f"{DEEPEST} signatures deep")


# -- stores that cannot do chords --


@pytest.mark.parametrize("backend", [None, "disabled://", "rpc://"])
def test_a_chord_needs_a_store_that_counts(backend: str | None) -> None:
    broker = "amqp://nobody@127.0.0.1:1//" if backend == "rpc://" else f"memory://{new_id()}"
    app = Umbel("refusing", broker=broker, backend=backend or "disabled://", set_as_current=False)
    add, total = app.signature("w.add", (1, 1)), app.signature("w.total")
    for canvas in (
        chord([add], total, app=app),
        group(add, add, app=app) | total,
        chain(add, group(add, add, app=app), total, app=app),
        chain(add, chain(add, group(add, add, app=app), app=app), total, app=app),
        group(add, chord([add], total, app=app), app=app),
        chord([chord([add], total, app=app)], total, app=app),
    ):
        with pytest.raises(InvalidCanvas, match="cannot run chords"):
            canvas.apply_async(countdown=5)
    if backend != "rpc://":
        assert app.broker.size("celery").delayed == 0
    app.close()


# -- members whose results nobody gets --


def test_a_member_that_ignores_its_result(app: Umbel) -> None:
    total, add = task(app, "total"), task(app, "add", 1, 1)
    by_task, by_call = task(app, "silent"), task(app, "add", 1, 1, ignore_result=True)
    for member in (by_task, by_call):
        for header in (
            [add, member],
            [chain(add, member)],
            [add, group(add, member)],
            [chord([add], member)],
            [chain(add, group(member, add))],
        ):
            refused(app, chord(header, total).apply_async, "ignores its result")
            refused(app, (group(header) | total).apply_async, "ignores its result")
        refused(app, group(add, chord([member], total)).apply_async, "ignores its result")
        refused(app, chord([add], chain(chord([member], total))).apply_async, "ignores its result")


def test_links_that_are_no_members_may_ignore_their_results(app: Umbel) -> None:
    chord([chain(task(app, "silent"), task(app, "add", 1, 1).set(immutable=True))], task(app, "total")).apply_async()
    chord([task(app, "add", 1, 1)], task(app, "silent").set(immutable=True)).apply_async()
    assert app.broker.size("celery").ready == 2


# -- what is no signature --


@pytest.mark.parametrize("wrong", [5, "add", None, object(), {"args": []}, len])
def test_what_is_no_signature(app: Umbel, wrong: Any) -> None:
    add, total = task(app, "add", 1, 1), task(app, "total")
    for make in (
        lambda: chain(add, wrong),
        lambda: group(add, wrong),
        lambda: group([wrong]),
        lambda: chord([add, wrong], total),
        lambda: xmap(wrong, [1]),
        lambda: chunks(wrong, [(1, 1)], 1),
    ):
        refused(app, make, "made of signatures, not of")
    if wrong is not None:
        refused(app, lambda: chord([add], wrong), "made of signatures, not of")
        with pytest.raises((TypeError, InvalidCanvas)):
            add | wrong


def test_a_task_instead_of_its_signature_is_told_what_to_write(app: Umbel) -> None:
    with pytest.raises(InvalidCanvas, match=r"task\.s\("):
        chain(app.tasks[f"{__name__}.add"], task(app, "add", 1))


@pytest.mark.parametrize("wrong", [5, "add", {"args": []}, {"task": 5}, {"task": ""}])
def test_what_was_put_into_a_canvas_later(app: Umbel, wrong: Any) -> None:
    add = task(app, "add", 1, 1)
    for canvas in (chain(add, add), group(add, add), chord([add, add], task(app, "total"))):
        canvas.tasks.append(wrong)
        refused(app, canvas.apply_async, "made of signatures, not of")
    body = chord([add, add], task(app, "total"))
    body.body = wrong
    refused(app, body.apply_async, "made of signatures, not of")


def test_signatures_as_data_of_unknown_kinds(app: Umbel) -> None:
    data = {"task": "w.add", "args": [], "kwargs": {}, "options": {}, "subtask_type": "braid"}
    refused(app, lambda: signature(data, app=app), "braid", InvalidTaskError)


def test_nothing_to_run(app: Umbel) -> None:
    refused(app, chain(app=app).apply_async, "empty chain")
    refused(app, chord([task(app, "add", 1, 1)]).apply_async, "needs a body")
    refused(app, group(chord([task(app, "add", 1, 1)])).apply_async, "needs a body")


# -- unknown tasks --


def test_a_task_that_its_module_does_not_have(app: Umbel) -> None:
    add, total, wrong = task(app, "add", 1, 1), task(app, "total"), task(app, "ad", 1, 1)
    for canvas in (
        chain(add, wrong),
        group(add, wrong),
        chord([add, wrong], total),
        chord([add], wrong),
        group(add, chord([add], chain(total, wrong))),
    ):
        refused(app, canvas.apply_async, rf"calls {__name__}\.ad, but .* did you mean {__name__}\.add\?")


def test_tasks_of_modules_that_are_not_imported_here_are_sent(app: Umbel) -> None:
    chain(app.signature("elsewhere.tasks.work"), task(app, "add", 1)).apply_async()
    group(app.signature("work"), app.signature("elsewhere.work")).apply_async()
    assert app.broker.size("celery").ready == 3


# -- what cannot be written --


def test_what_fails_to_serialize(app: Umbel) -> None:
    add, total, wrong = task(app, "add", 1, 1), task(app, "total"), object()
    for canvas in (
        chord([add, add], task(app, "total", wrong)),
        chord([add, task(app, "add", wrong, 1)], total),
        chain(add, task(app, "add", wrong)),
        chain(add, *[task(app, "add", 1) for _ in range(100)], task(app, "add", wrong)),
        group(*[add for _ in range(3000)], task(app, "add", wrong, 1)),
        chord([add, add], chain(total, *[task(app, "add", 1) for _ in range(50)], task(app, "add", wrong))),
        group(add, chord([add], chain(total, task(app, "add", wrong)))),
        chunks(task(app, "add"), [(1, 1), (wrong, 1)], 1),
        xmap(task(app, "total"), [wrong]),
    ):
        refused(app, canvas.apply_async, "object", EncodeError)


def test_options_that_do_not_exist(app: Umbel) -> None:
    add = task(app, "add", 1, 1)
    for canvas in (chain(add, add), group(add, add), chord([add], task(app, "total"))):
        with pytest.raises((UmbelError, TypeError), match="contdown"):
            canvas.apply_async(contdown=5)
        assert app.broker.size("celery").ready == 0
