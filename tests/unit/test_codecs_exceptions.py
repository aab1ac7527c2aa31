"""Exceptions there and back, under Celery's names, and that rebuilding one runs nothing it should not."""

from __future__ import annotations

import json
import pickle
import sys
import types
from typing import Any

import pytest

from umbel import errors
from umbel.codecs import accept_set, dumps, loads
from umbel.codecs.exceptions import RemoteException, decode_exception, encode_exception


class OrderFailed(Exception):
    pass


class NeedsMore(Exception):
    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(code)
        self.detail = detail


class UserTaskError(errors.TaskError):
    pass


def travel(exc: BaseException, name: str) -> BaseException:
    encoded = dumps(encode_exception(exc, name), name)
    accept = accept_set([name])
    return decode_exception(loads(encoded.body, encoded.content_type, encoded.content_encoding, accept))


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classes of this file are where a task's module would be, whatever pytest calls it."""
    module = types.ModuleType("shop")
    for cls in (OrderFailed, NeedsMore, UserTaskError):
        monkeypatch.setattr(cls, "__module__", "shop")
        setattr(module, cls.__name__, cls)
    monkeypatch.setitem(sys.modules, "shop", module)


@pytest.mark.parametrize("name", ["json", "yaml", "msgpack", "pickle"])
@pytest.mark.parametrize(
    "exc",
    [
        ValueError("bad", 3),
        KeyError("k"),
        OrderFailed("o", None),
        UserTaskError("mine"),
        errors.TaskRevokedError("revoked"),
        errors.TimeLimitExceeded(30),
        errors.MaxRetriesExceededError("five times"),
        errors.NotRegistered("tasks.add"),
        errors.Reject("no", True),
        errors.ContentDisallowed("no"),
        errors.NoBackend("none"),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_round_trip(exc: BaseException, name: str) -> None:
    back = travel(exc, name)
    expected = errors.BackendError if type(exc) is errors.NoBackend else type(exc)
    assert type(back) is expected
    assert back.args == exc.args


@pytest.mark.parametrize(
    ("exc", "module", "name"),
    [
        (errors.TaskRevokedError("expired"), "celery.exceptions", "TaskRevokedError"),
        (errors.TimeLimitExceeded(3), "billiard.exceptions", "TimeLimitExceeded"),
        (errors.WorkerLostError("x"), "billiard.exceptions", "WorkerLostError"),
        (errors.OperationalError("x"), "kombu.exceptions", "OperationalError"),
        (errors.ConfigurationError("x"), "celery.exceptions", "ImproperlyConfigured"),
        (errors.MissingExtra("f", "redis"), "celery.exceptions", "ImproperlyConfigured"),
        (errors.TimeoutError("x"), "celery.exceptions", "TimeoutError"),
        (UserTaskError("x"), "shop", "UserTaskError"),
        (ValueError("x"), "builtins", "ValueError"),
    ],
)
def test_wire_names(exc: BaseException, module: str, name: str) -> None:
    payload = encode_exception(exc, "json")
    assert payload == {"exc_type": name, "exc_message": list(exc.args), "exc_module": module}
    if module != "shop":
        assert type(decode_exception(payload)).__name__ in {name, "ConfigurationError"}


def test_arguments_that_cannot_be_written() -> None:
    marker = object()
    payload = encode_exception(ValueError("a", marker, {1}, b"\xff"), "json")
    assert payload["exc_message"] == ["a", repr(marker), "{1}", b"\xff"]
    assert decode_exception(json.loads(dumps(payload, "json").body)).args[:2] == ("a", repr(marker))


def test_pickle_falls_back_to_data() -> None:
    def local() -> BaseException:
        class Local(Exception):
            pass

        return Local("x")

    assert isinstance(encode_exception(OrderFailed("x"), "pickle"), OrderFailed)
    assert encode_exception(local(), "pickle")["exc_message"] == ["x"]
    assert encode_exception(NeedsMore(1, detail="d"), "pickle")["exc_type"] == "NeedsMore"
    assert encode_exception(ValueError(lambda: 1), "pickle")["exc_type"] == "ValueError"
    assert encode_exception(errors.ChordError("x"), "pickle")["exc_module"] == "celery.exceptions"


def test_celery_exceptions_in_pickles() -> None:
    body = b"ccelery.exceptions\nTaskRevokedError\n(S'revoked'\ntR."
    value = loads(body, "application/x-python-serialize", "binary", {"pickle"})
    assert type(value) is errors.TaskRevokedError
    wrapped = b"ccelery.utils.serialization\nUnpickleableExceptionWrapper\n(S'm'\nS'Odd'\n(S'a'\ntNtR."
    value = loads(wrapped, "application/x-python-serialize", "binary", {"pickle"})
    assert isinstance(value, RemoteException)
    assert repr(value) == "Odd('a')"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("os", "path.join"),
        ("builtins", "eval"),
        ("builtins", "int"),
        ("builtins", "object"),
        ("builtins", "__import__"),
        ("subprocess", "Popen"),
        ("no.such.module", "Nothing"),
        ("shop", "OrderFailed.__init__"),
        ("shop", "OrderFailed.__class__"),
        ("", ""),
        ("celery.exceptions", "UmbelErrorX"),
        ("x", "nul\0 \ud800 <locals>"),
    ],
)
def test_only_exception_classes_are_called(module: str, name: str, tmp_path: Any) -> None:
    witness = tmp_path / "ran"
    payload = {"exc_type": name, "exc_message": [f"touch {witness}"], "exc_module": module}
    exc = decode_exception(payload)
    assert isinstance(exc, RemoteException)
    assert exc.args == (f"touch {witness}",)
    assert not witness.exists()
    assert repr(exc).startswith(type(exc).__name__ + "(")


def test_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    lazy = types.ModuleType("lazy")
    lazy.__getattr__ = asked.append  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "lazy", lazy)
    monkeypatch.delitem(sys.modules, "antigravity", raising=False)
    for module in ("lazy", "antigravity"):
        decode_exception({"exc_type": "Error", "exc_message": [], "exc_module": module})
    assert asked == []
    assert "antigravity" not in sys.modules


def test_remote_exceptions() -> None:
    payload = {"exc_type": "Outer.Inner", "exc_message": [1, "two"], "exc_module": "elsewhere"}
    exc = decode_exception(payload)
    assert isinstance(exc, errors.TaskError)
    assert type(exc) is type(decode_exception(payload))
    assert (type(exc).__module__, type(exc).__qualname__, exc.args) == ("elsewhere", "Outer.Inner", (1, "two"))
    assert repr(exc) == "Inner(1, 'two')"
    again = pickle.loads(pickle.dumps(exc))
    assert type(again) is type(exc)
    assert again.args == exc.args
    for name in ("json", "pickle"):
        assert encode_exception(exc, name) == payload


def test_constructors_that_refuse_the_arguments() -> None:
    exc = travel(NeedsMore(7, detail="d"), "json")
    assert isinstance(exc, RemoteException)
    assert (type(exc).__name__, type(exc).__module__, exc.args) == ("NeedsMore", "shop", (7,))


@pytest.mark.parametrize("payload", [None, "text", 5, [], {}, {"exc_message": ["x"]}])
def test_payloads_of_no_known_form(payload: Any) -> None:
    exc = decode_exception(payload)
    assert type(exc) is errors.TaskError
    assert exc.args == (payload,)


def test_old_forms() -> None:
    exc = decode_exception({"exc_type": "ValueError", "exc_message": "bad"})
    assert type(exc) is ValueError
    assert exc.args == ("bad",)
    given = OSError(2, "x")
    assert decode_exception(given) is given
