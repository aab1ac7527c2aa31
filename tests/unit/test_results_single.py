"""One result: what else it can do than wait: ``then``, ``throw``, the tree below it, tuples, pickles, comparison."""

from __future__ import annotations

import copy
import io
import json
import pickle
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

import umbel.result
from umbel import AsyncResult, EagerResult, GroupResult, ResultSet, Umbel
from umbel.backends.base import Meta
from umbel.errors import IncompleteStream, NoBackend
from umbel.result import GraphFormatter, ResultBase, result_from_tuple
from workers import wait_for


@pytest.fixture
def app() -> Iterator[Umbel]:
    with Umbel("single", broker=f"memory://{uuid.uuid4()}", backend=f"memory://{uuid.uuid4()}") as made:
        yield made


def store(app: Umbel, task_id: str, status: str = "SUCCESS", result: Any = None, **fields: Any) -> None:
    app.backend.store([app.backend.encode(Meta(task_id=task_id, status=status, result=result, **fields))])


def store_failure(app: Umbel, task_id: str, text: str = "why") -> None:
    store(app, task_id, "FAILURE", {"exc_type": "ValueError", "exc_module": "builtins", "exc_message": [text]})


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", umbel.result.__all__)
def test_public_names(name: str) -> None:
    assert getattr(umbel.result, name)


def test_all_results_have_one_base_and_one_home(app: Umbel) -> None:
    for result in (app.AsyncResult("a"), EagerResult("a", 1, "SUCCESS"), ResultSet([], app=app), GroupResult()):
        assert isinstance(result, ResultBase) and result.parent is None
        assert type(result).__module__ == "umbel.result"


# -- then, throw, exists ---------------------------------------------------------------------------


def test_then_is_called_when_the_task_ends(app: Umbel) -> None:
    result, seen = app.AsyncResult("a"), list[Any]()
    promise = result.then(seen.append)
    last = promise.then(lambda _: seen.append("after"))
    assert seen == [] and not promise.ready
    store(app, "a", result=5)
    wait_for(lambda: last.ready, 5, "the callbacks")
    assert seen == [result, "after"] and result.ready_here()
    assert result.then(seen.append).ready and len(seen) == 3
    promise.then(lambda _: seen.append("late"))
    assert seen[-1] == "late"


def test_then_tells_of_failed_tasks_too(app: Umbel) -> None:
    seen: list[Any] = []
    promise = app.AsyncResult("a").then(lambda done: seen.append(done.state))
    store_failure(app, "a")
    wait_for(lambda: promise.ready, 5, "the callback")
    assert seen == ["FAILURE"]


def test_what_a_callback_raises_goes_to_on_error(app: Umbel, caplog: pytest.LogCaptureFixture) -> None:
    errors: list[BaseException] = []
    first = app.AsyncResult("a").then(lambda done: 1 / 0, on_error=errors.append)
    second = app.AsyncResult("a").then(lambda done: 1 / 0)
    third = app.AsyncResult("a").then(lambda done: 1 / 0)
    third.then(lambda value: None, on_error=errors.append)
    store(app, "a")
    wait_for(lambda: first.ready and second.ready and third.ready and len(errors) == 2, 5, "the callbacks")
    assert all(isinstance(error, ZeroDivisionError) for error in errors)
    assert first.failed and isinstance(second.reason, ZeroDivisionError)
    wait_for(lambda: "could not be handed over" in caplog.text, 5, "the log")
    with pytest.raises(ZeroDivisionError):
        app.tasks["celery.accumulate"].apply((1,)).then(lambda done: 1 / 0)


def test_a_weak_callback_ends_with_its_result(app: Umbel) -> None:
    seen: list[Any] = []
    held, gone = app.AsyncResult("a"), app.AsyncResult("a")
    held.then(lambda done: seen.append("held"), weak=True)
    gone.then(lambda done: seen.append("gone"), weak=True)
    del gone
    store(app, "a")
    wait_for(lambda: seen, 5, "the callback")
    assert seen == ["held"]


def test_a_cancelled_promise_makes_no_call(app: Umbel) -> None:
    seen: list[Any] = []
    promise = app.AsyncResult("a").then(seen.append)
    after = promise.then(seen.append)
    promise.cancel()
    store(app, "a")
    assert app.AsyncResult("a").get(timeout=1) is None
    promise("by hand")
    assert seen == [] and after.cancelled and not promise.ready


def test_a_promise_that_is_thrown_at_fails(app: Umbel) -> None:
    errors: list[BaseException] = []
    promise = app.AsyncResult("a").then(lambda done: None, on_error=errors.append)
    promise.throw(LookupError("x"))
    promise.throw(LookupError("again"))
    assert [str(error) for error in errors] == ["x"]
    with pytest.raises(LookupError, match="x"):
        promise.then(lambda value: None)


def test_throw_raises_what_is_given_or_what_the_task_raised(app: Umbel) -> None:
    store_failure(app, "a")
    with pytest.raises(KeyError):
        app.AsyncResult("a").throw(KeyError("mine"))
    with pytest.raises(ValueError, match="why"):
        app.AsyncResult("a").throw()
    assert app.AsyncResult("unknown").throw() is None


def test_exists_asks_the_store(app: Umbel) -> None:
    result = app.AsyncResult("a")
    assert not result.exists()
    store(app, "a", "STARTED")
    assert result.exists()
    result.forget()
    assert not result.exists() and EagerResult("b", 1, "SUCCESS").exists()


def test_native_join_is_possible_where_results_are_stored(app: Umbel) -> None:
    assert app.AsyncResult("a").supports_native_join and ResultSet([app.AsyncResult("a")]).supports_native_join
    assert not EagerResult("b", 1, "SUCCESS").supports_native_join
    with Umbel("mute", broker="memory://mute", backend="disabled://", set_as_current=False) as mute:
        assert not mute.AsyncResult("a").supports_native_join
        with pytest.raises(NoBackend):
            mute.AsyncResult("a").then(print)


def test_a_failed_parent_is_raised(app: Umbel) -> None:
    store_failure(app, "first", "the first")
    last = app.AsyncResult("last", parent=app.AsyncResult("middle", parent=app.AsyncResult("first")))
    with pytest.raises(ValueError, match="the first"):
        last.get(timeout=10, interval=0.05)
    with pytest.raises(umbel.errors.TimeoutError):
        last.get(timeout=0.1, interval=0.05, follow_parents=False)


def test_tasks_are_revoked_by_their_stamps(app: Umbel) -> None:
    listener = app.broker.listen("celery.pidbox")
    try:
        app.AsyncResult("any").revoke_by_stamped_headers({"tenant": ["acme"]}, terminate=True, signal="KILL", wait=True)
        (note,) = listener.receive(5)
    finally:
        listener.close()
    assert json.loads(note.body)["arguments"] == {
        "headers": {"tenant": ["acme"]}, "terminate": True, "signal": "SIGKILL",
    }  # fmt: skip


# -- the tree below --------------------------------------------------------------------------------


def plant(app: Umbel) -> AsyncResult[Any]:
    """root -> (left -> leaf, group of two)."""

    def one(name: str) -> Any:
        return app.AsyncResult(name).as_tuple()

    members = app.GroupResult("group", [app.AsyncResult("g1"), app.AsyncResult("g2")])
    store(app, "root", result="r", children=[one("left"), members.as_tuple()])
    store(app, "left", result="l", children=[one("leaf")])
    for name in ("leaf", "g1", "g2"):
        store(app, name, result=name, children=[])
    return app.AsyncResult("root")


def test_all_below_a_task_are_collected_level_by_level(app: Umbel) -> None:
    root = plant(app)
    pairs = [(parent and parent.id, child.id) for parent, child in root.iterdeps()]
    assert pairs == [
        (None, "root"), ("root", "left"), ("root", "group"), ("left", "leaf"), ("group", "g1"), ("group", "g2"),
    ]  # fmt: skip
    found = [(result.id, value) for result, value in root.collect()]
    assert found == [
        ("root", "r"),
        ("left", "l"),
        ("group", ["g1", "g2"]),
        ("leaf", "leaf"),
        ("g1", "g1"),
        ("g2", "g2"),
    ]
    assert root.get_leaf() == "g2"
    children = root.children
    assert children is not None and [type(child) for child in children] == [AsyncResult, GroupResult]


def test_the_tree_is_drawn(app: Umbel) -> None:
    class Short(GraphFormatter):
        def label(self, node: Any) -> str:
            return f'"{node.id}"'

    graph = plant(app).graph
    assert [node.id for node in graph] == ["root", "left", "group", "leaf", "g1", "g2"]
    assert [node.id for node in graph.edges()] == ["root", "left", "group"]
    assert graph.topsort()[-1].id == "root" and graph.valency_of(app.AsyncResult("root")) == 6 == len(graph)
    text = io.StringIO()
    graph.to_dot(text)
    assert text.getvalue().startswith('digraph "root" {') and '"left" -> "leaf"' in text.getvalue()
    assert text.getvalue().rstrip().endswith("}")
    other = io.StringIO()
    plant(app).build_graph(formatter=Short()).to_dot(other)
    assert '"g1" [label="\\"g1\\""]' in other.getvalue()
    assert "root: left, group" in repr(graph) and "leaf: -" in repr(graph)


def test_a_tree_that_still_grows_is_said_to(app: Umbel) -> None:
    root = plant(app)
    app.AsyncResult("left").forget()
    seen: list[str] = []
    with pytest.raises(IncompleteStream, match="left"):
        for _, found in root.iterdeps():
            seen.append(found.id)
    assert seen == ["root", "left"]
    assert [found.id for _, found in root.iterdeps(intermediate=True)] == ["root", "left", "group", "g1", "g2"]
    with pytest.raises(IncompleteStream):
        root.build_graph()
    assert len(root.build_graph(intermediate=True)) == 5


# -- plain data ------------------------------------------------------------------------------------


def chained(app: Umbel, *ids: str) -> AsyncResult[Any]:
    found: Any = None
    for each in ids:
        found = app.AsyncResult(each, parent=found)
    return found


def test_tuples_and_back(app: Umbel) -> None:
    header = app.GroupResult("g", [app.AsyncResult("a"), app.AsyncResult("b")], parent=app.AsyncResult("before"))
    body = app.AsyncResult("body", parent=header)
    assert body.as_tuple() == (
        ("body", (("g", (("before", None), None)), [(("a", None), None), (("b", None), None)])), None,
    )  # fmt: skip
    again: Any = result_from_tuple(body.as_tuple(), app)
    assert again == body and again.parent == header and again.parent.parent == "before" and again.app is app
    assert body.as_list() == ["body", "g", "before"]
    assert result_from_tuple(header) is header
    assert result_from_tuple(["x", None], app) == "x"
    with pytest.raises(ValueError, match="not a result"):
        result_from_tuple(None)


def test_of_long_chains_the_nearest_travel(app: Umbel) -> None:
    last = chained(app, *map(str, range(5000)))
    again: Any = result_from_tuple(last.as_tuple(), app)
    assert len(again.as_list()) == 100 and again.as_list()[-1] == "4900"
    assert len(last.as_list()) == 5000
    heads: Any = None
    for number in range(3000):
        heads = app.GroupResult(f"g{number}", [app.AsyncResult(f"m{number}")], parent=heads)
    assert result_from_tuple(heads.as_tuple(), app) is not None


def test_results_are_pickled(app: Umbel) -> None:
    header = app.GroupResult("g", [app.AsyncResult("a"), app.AsyncResult("b", task_name="named")])
    body = chained(app, "body")
    body.parent = header
    for result in (body, header, ResultSet([body], app=app), EagerResult("e", 5, "SUCCESS", None, "name")):
        again: Any = pickle.loads(pickle.dumps(result))
        assert type(again) is type(result) and again == result
    again = pickle.loads(pickle.dumps(body))
    assert again.parent.results[1].task_name == "named"
    long = pickle.loads(pickle.dumps(chained(app, *map(str, range(20_000)))))
    assert long.as_list() == [str(number) for number in reversed(range(20_000))]
    assert b"umbel.results" not in pickle.dumps(ResultSet([body, header, EagerResult("e", 5, "SUCCESS")]))


class OwnResult(AsyncResult[Any]):
    """A subclass as users make them."""


def test_own_classes_of_results_stay_theirs(app: Umbel) -> None:
    made = OwnResult("a", app=app, parent=OwnResult("b"))
    for again in (pickle.loads(pickle.dumps(made)), copy.copy(made)):
        assert type(again) is OwnResult and again == made and again.parent == "b"


def test_copies_keep_their_application(app: Umbel) -> None:
    with Umbel("other", broker="memory://other", backend="memory://other") as other:
        assert copy.copy(other.AsyncResult("a")).app is other
    eager = EagerResult[int]("e", 5, "SUCCESS")
    assert copy.copy(eager).get() == 5 and type(copy.copy(eager)) is EagerResult


def test_equality_and_hashes(app: Umbel) -> None:
    one = app.AsyncResult("a")
    assert one == app.AsyncResult("a") == "a" and one != app.AsyncResult("b") and one != 5
    assert len({one, app.AsyncResult("a"), EagerResult("a", 1, "SUCCESS")}) == 1
    group = app.GroupResult("g", [one])
    assert group == app.GroupResult("g", [one]) == "g" and hash(group) == hash("g") and group
    assert group != app.GroupResult("g", []) and group != app.GroupResult("g", [one], parent=one)
    assert ResultSet([one]) == ResultSet([one]) and ResultSet([one]) != ResultSet([])
    with pytest.raises(TypeError):
        hash(ResultSet([one]))
    assert GroupResult().id != GroupResult().id and GroupResult()
    assert repr(group) == "<GroupResult: g [a]>" and str(group) == "g"


# -- groups that are kept --------------------------------------------------------------------------


def test_a_group_is_restored_with_what_came_before_it(app: Umbel) -> None:
    inner = app.GroupResult("inner", [app.AsyncResult("x")])
    group = app.GroupResult("g", [app.AsyncResult("a"), inner], parent=app.AsyncResult("before"))
    group.save()
    again = GroupResult.restore("g", app=app)
    assert again == group and again is not None and again.parent == "before" and again.children == group.results
    assert GroupResult.restore("g", backend=app.backend) == group
    group.delete()
    assert GroupResult.restore("g", app=app) is None and group.parent is not None


def test_the_classes_of_an_application(app: Umbel) -> None:
    with Umbel("other", broker="memory://other", backend=app.backend.url) as other:
        app.GroupResult("g", [app.AsyncResult("a")]).save()
        again: Any = app.GroupResult.restore("g")
        assert again.app is app and again[0].app is app and app.GroupResult.restore("g", app=other).app is other
        assert isinstance(again, app.GroupResult) and not isinstance(again, app.AsyncResult)
        assert app.AsyncResult("a", None, "name").task_name == "name"
        assert app.AsyncResult.TimeoutError is umbel.errors.TimeoutError and "AsyncResult of" in repr(app.AsyncResult)


# -- that ran here ---------------------------------------------------------------------------------


def test_eager_results_answer_as_sent_ones_do(app: Umbel) -> None:
    result: EagerResult[int] = EagerResult("e", 5, "SUCCESS", name="add")
    seen: list[Any] = []
    assert result.get(timeout=1, disable_sync_subtasks=False, callback=lambda *found: seen.append(found)) == 5
    assert result.wait() == 5 and result.name == "add" and result.children is None and seen == [("e", 5)]
    assert result.get(progress=True) == 5
    assert result.then(seen.append).ready and seen[-1] is result
    result.forget()
    assert result.get() == 5 and result.status == "SUCCESS"
    result.revoke()
    assert result.state == "REVOKED" and repr(result) == "<EagerResult: e>"
