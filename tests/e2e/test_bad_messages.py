"""Messages that no client of ours sends: each ends with a clear reason, and the worker goes on."""

from __future__ import annotations

import json
import pickle
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from oddities import QUEUE, TIMEOUT, Node, call, node
from umbel.errors import ContentDisallowed, DecodeError, InvalidTaskError, MessageTooLarge
from workers import wait_for


@pytest.fixture(scope="module", params=["sqlite", "redis", "rabbitmq"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with node(request.param, tmp_path_factory.mktemp("odd")) as made:
        yield made


def deep(levels: int = 100_000) -> bytes:
    return b"[" * levels + b"]" * levels


# -- no message at all -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{not json",
        b'"a string"',
        b"[1, 2]",
        b"null",
        b"{}",
        b"\xff\xfe\x00",
        b'{"body": 5}',
        b'{"body": "%%%", "properties": {"body_encoding": "base64"}}',
        b'{"headers": {"task": "apps.odd.add", "id": "x"}, "body": "AAA", "properties": {"body_encoding": "base64"}}',
        b'{"properties": {"delivery_info": "nowhere"}}',
        b'{"properties": null, "headers": null}',
        b'{"headers": ' + deep() + b"}",
        deep(),
        b"x" * 1_000_000,
    ],
    ids=lambda data: repr(data[:40]),
)
@pytest.mark.parametrize("shared", ["redis"], indirect=True)
def test_a_list_entry_that_is_no_message_is_dead_lettered(odd: Node, data: bytes) -> None:
    odd.inject_raw(data)
    letter = odd.take_dead_letter()
    assert letter.reason.startswith("unreadable message: ")
    assert letter.message.body == data or data.startswith(b"{")


@pytest.mark.parametrize(
    "headers",
    [b"{not json", b"", b"null", b"[1]", b"\xff", b'{"task": "apps.odd.add"}', b'{"x": ' + deep() + b"}"],
    ids=lambda headers: repr(headers[:30]),
)
@pytest.mark.parametrize("shared", ["sqlite"], indirect=True)
def test_a_row_whose_headers_cannot_be_read_is_dead_lettered(odd: Node, headers: bytes) -> None:
    odd.inject(headers)
    assert odd.take_dead_letter().reason.startswith("unreadable message: ")


# -- headers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"{oops", b"[]", b"{}", b"5", b'{"task": "apps.odd.add"}', b'{"id": "1"}'], ids=str)
def test_a_message_without_a_task_is_dead_lettered(odd: Node, body: bytes) -> None:
    odd.inject({}, body)
    assert odd.take_dead_letter().reason.startswith("unreadable message: ")


@pytest.mark.parametrize("wrong", ['"retries": 1e400', '"timelimit": 5', '"eta": 5', '"timelimit": {"a": 1}'])
def test_a_call_of_protocol_1_that_cannot_be_understood_is_dead_lettered(odd: Node, wrong: str) -> None:
    odd.inject({}, b'{"task": "apps.odd.add", "id": "old", "args": [1, 1], %s}' % wrong.encode())
    assert odd.take_dead_letter().reason.startswith("unreadable message: ")


def test_a_task_without_an_id_is_dead_lettered(odd: Node) -> None:
    odd.inject({"task": "apps.odd.add"})
    assert "has no id" in odd.take_dead_letter().reason


@pytest.mark.parametrize(
    "wrong",
    [{"task": ["a"]}, {"id": {"a": 1}}, {"eta": "not a date"}, {"eta": [1]}, {"expires": "tomorrow"}, {"expires": {}}],
    ids=str,
)
def test_a_header_that_cannot_be_understood_is_named_in_the_reason(odd: Node, wrong: dict[str, Any]) -> None:
    odd.inject(call(**wrong))
    assert odd.take_dead_letter().reason.startswith("unreadable message: ")


@pytest.mark.parametrize(
    "strange",
    [
        {"timelimit": None},
        {"retries": None},
        {"root_id": None, "parent_id": None, "stamps": None, "stamped_headers": None},
        {"stamps": {"a": "b"}, "stamped_headers": ["a", "missing"]},
        {"argsrepr": "x" * 100_000},
        {"lang": "java", "origin": None, "shadow": "\u2028", "x-own": {"a": [1, None, {}]}},
        {"ignore_result": None},
        {"eta": "2020-01-01T00:00:00Z"},
        {"eta": "2020-01-01T00:00:00"},
        {"compression": None},
    ],
    ids=lambda strange: str(strange)[:50],
)
def test_strange_headers_do_not_hinder_a_task(odd: Node, strange: dict[str, Any]) -> None:
    task_id = odd.inject(call(**strange))
    assert odd.tasks.app.AsyncResult(task_id).get(timeout=TIMEOUT) == 2


@pytest.mark.parametrize(
    "wrong",
    [{"retries": "many"}, {"timelimit": "long"}, {"timelimit": [1, 2, 3]}, {"group_index": "first"}, {"stamps": 5}],
    ids=str,
)
def test_a_header_of_the_wrong_type_neither_stops_the_worker_nor_loses_the_call(
    odd: Node, wrong: dict[str, Any]
) -> None:
    task_id = odd.inject(call(**wrong))
    result = odd.tasks.app.AsyncResult(task_id)
    wait_for(result.ready, TIMEOUT, odd.worker.output()[-2000:])
    if result.failed():
        assert next(iter(wrong)) in odd.take_dead_letter(task_id).reason
    else:
        assert result.get() == 2


@pytest.mark.parametrize("task_id", ["a", "ä\n€😀", "x" * 200, "{}", "a b'\"\\"], ids=lambda text: ascii(text[:8]))
def test_any_text_will_do_as_an_id(odd: Node, task_id: str) -> None:
    odd.inject(call(id=task_id))
    assert odd.tasks.app.AsyncResult(task_id).get(timeout=TIMEOUT) == 2


@pytest.mark.parametrize("name", ["no.such.task", "ä€", "celery", "x" * 200, "apps.odd", "__import__('os')"])
def test_an_unknown_task_is_parked(odd: Node, name: str) -> None:
    odd.inject(call(name))
    try:
        wait_for(lambda: odd.broker.parked(QUEUE) == {name: 1}, TIMEOUT, f"{odd.broker.parked(QUEUE)}")
        assert "task is not known here, message parked" in odd.worker.output()
        odd.check_healthy()
    finally:
        odd.broker.delete(QUEUE)
        odd.worker.stop()


# -- bodies ----------------------------------------------------------------------------------------


BODIES = {
    "not json": b"{oops",
    "empty": b"",
    "not utf-8": b'[["\xff"], {}, {}]',
    "two elements": b"[[1, 1], {}]",
    "four elements": b"[[1, 1], {}, {}, {}]",
    "args no list": b'["ab", {}, {}]',
    "kwargs no object": b"[[1, 1], [2], {}]",
    "embed no object": b"[[1, 1], {}, 7]",
    "a number": b"17",
    "null": b"null",
    "deep": b"[" + deep() + b", {}, {}]",
    "unknown type": b'[[{"__type__": "os.system", "__value__": "x"}, 1], {}, {}]',
    "broken type": b'[[{"__type__": "datetime", "__value__": "x"}, 1], {}, {}]',
    "infinite": b"[[1e999999, NaN], {}, {}",
}


@pytest.mark.parametrize("which", BODIES)
def test_a_body_that_cannot_be_read_is_a_failure_and_a_dead_letter(odd: Node, which: str) -> None:
    task_id = odd.inject(call(), BODIES[which])
    letter = odd.take_dead_letter(task_id)
    assert letter.message.body == BODIES[which]
    assert letter.reason.startswith(("DecodeError: ", "InvalidTaskError: "))
    result = odd.tasks.app.AsyncResult(task_id)
    with pytest.raises((DecodeError, InvalidTaskError)):
        result.get(timeout=TIMEOUT)


@pytest.mark.parametrize(
    ("compression", "body"),
    [
        ("application/x-gzip", b"not compressed"),
        ("application/x-gzip", zlib.compress(b"[[1, 1], {}, {}]")[:-4]),
        ("application/x-bz2", b""),
        ("application/x-unknown", b"[[1, 1], {}, {}]"),
        ("application/x-gzip", zlib.compress(b"[" * (1 << 20), 9)),
    ],
    ids=["not compressed", "cut off", "empty", "unknown", "not json"],
)
def test_a_body_that_cannot_be_decompressed_is_a_failure_and_a_dead_letter(
    odd: Node, compression: str, body: bytes
) -> None:
    task_id = odd.inject(call(compression=compression), body)
    assert odd.take_dead_letter(task_id).reason.startswith("DecodeError: ")
    with pytest.raises(DecodeError):
        odd.tasks.app.AsyncResult(task_id).get(timeout=TIMEOUT)


class Touch:
    """Unpickled, it creates a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


@pytest.mark.parametrize("protocol", [1, 2])
def test_pickle_is_refused_before_anything_is_decoded(odd: Node, protocol: int) -> None:
    trace = odd.directory / f"unpickled-{protocol}"
    body = pickle.dumps(([Touch(str(trace)), 1], {}, {}))
    headers = call() if protocol == 2 else {}
    task_id = odd.inject(headers, body, content_type="application/x-python-serialize", content_encoding="binary")
    letter = odd.take_dead_letter(task_id)
    assert "application/x-python-serialize" in letter.reason and "accept_content" in letter.reason
    assert not trace.exists()
    if protocol == 2:
        with pytest.raises(ContentDisallowed):
            odd.tasks.app.AsyncResult(task_id).get(timeout=TIMEOUT)


@pytest.mark.parametrize("content_type", ["application/x-unknown", "text/html"])
def test_an_unknown_content_type_is_refused(odd: Node, content_type: str) -> None:
    task_id = odd.inject(call(), content_type=content_type)
    assert odd.take_dead_letter(task_id).reason.startswith("ContentDisallowed: ")
    with pytest.raises(ContentDisallowed, match=content_type):
        odd.tasks.app.AsyncResult(task_id).get(timeout=TIMEOUT)


@pytest.mark.parametrize(
    "arguments", [[[1], {}, {}], [[1, 2, 3], {}, {}], [[1, 2], {"z": 3}, {}], [["a", 1], {}, {}]], ids=str
)
def test_wrong_arguments_of_a_foreign_client_are_a_type_error(odd: Node, arguments: list[Any]) -> None:
    task_id = odd.inject(call(), arguments)
    with pytest.raises(TypeError):
        odd.tasks.app.AsyncResult(task_id).get(timeout=TIMEOUT)


@pytest.mark.parametrize("arguments", [(1,), (1, 2, 3), ()])
def test_wrong_arguments_are_refused_at_the_call(odd: Node, arguments: tuple[int, ...]) -> None:
    with pytest.raises(TypeError, match="add"):
        odd.tasks.add.delay(*arguments)
    with pytest.raises(TypeError, match="add"):
        odd.tasks.add.delay(1, 2, z=3)


@pytest.mark.parametrize("where", ["callbacks", "chain", "chord"])
@pytest.mark.parametrize("what", [5, [5], [{}], [{"task": 5}], {"no": "signature"}], ids=str)
def test_an_embed_that_is_none_is_refused_before_the_task_runs(odd: Node, where: str, what: Any) -> None:
    task_id = odd.inject(call(), [[1, 1], {}, {where: what}])
    result = odd.tasks.app.AsyncResult(task_id)
    assert odd.take_dead_letter(task_id).reason == f"InvalidTaskError: {where} of a task message are not calls of tasks"
    with pytest.raises(InvalidTaskError, match=where):
        result.get(timeout=TIMEOUT)


@pytest.mark.parametrize("what", [5, [5], [{}], [{"task": 5}], {"no": "signature"}], ids=str)
def test_error_callbacks_that_are_none_do_not_hide_the_error(odd: Node, what: Any) -> None:
    task_id = odd.inject(call(), [["a", 1], {}, {"errbacks": what}])
    result = odd.tasks.app.AsyncResult(task_id)
    with pytest.raises(TypeError if isinstance(what, list) else InvalidTaskError):
        result.get(timeout=TIMEOUT)
    if not isinstance(what, list):
        assert "errbacks" in odd.take_dead_letter(task_id).reason


@pytest.mark.parametrize("options", [{"priority": "high"}, {"task_id": 5}, {"queue": {}}, 7, {"eta": "x"}], ids=str)
def test_a_callback_with_odd_options_neither_stops_the_worker_nor_hangs_the_task(odd: Node, options: Any) -> None:
    callback = {"task": "apps.odd.add", "args": [1], "kwargs": {}, "options": options}
    task_id = odd.inject(call(), [[1, 1], {}, {"callbacks": [callback]}])
    result = odd.tasks.app.AsyncResult(task_id)
    wait_for(result.ready, TIMEOUT, odd.worker.output()[-3000:])
    odd.broker.purge_dead(QUEUE)


# -- size ------------------------------------------------------------------------------------------


def test_fifty_mebibytes_pass_and_more_than_allowed_is_refused_at_the_call(odd: Node) -> None:
    size = 50 << 20
    assert odd.tasks.length.delay("x" * size).get(timeout=60) == size
    conf = odd.tasks.app.conf
    conf.message_max_bytes = 1024
    try:
        with pytest.raises(MessageTooLarge, match=r"apps\.odd\.length .* message_max_bytes"):
            odd.tasks.length.delay("x" * 1024)
    finally:
        conf.message_max_bytes = 64 << 20


def test_a_hundred_bad_messages_among_good_ones(odd: Node) -> None:
    good = []
    for number in range(100):
        odd.inject(call(), BODIES["not json"])
        good.append(odd.tasks.add.delay(number, 1))
    assert [result.get(timeout=TIMEOUT) for result in good] == list(range(1, 101))
    wait_for(lambda: odd.broker.size(QUEUE).dead in (100, -1), TIMEOUT)
    letters = odd.broker.dead_letters(QUEUE, 1000)
    assert len(letters) == 100 and all(json.loads(letter.message.headers)["id"] for letter in letters)
    assert odd.broker.purge_dead(QUEUE) == 100
