"""``celery.contrib.testing.mocks``: task messages as objects for unit tests, in protocols 2 and 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock, Mock

from umbel.clock import now
from umbel.codecs import dumps
from umbel.message import format_moment, new_id
from umbel.sending import signature_list

if TYPE_CHECKING:
    from umbel.app import Umbel


def TaskMessage(
    name: str,
    id: str | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    callbacks: Any = None,
    errbacks: Any = None,
    chain: Any = None,
    shadow: str | None = None,
    utc: bool | None = None,
    **options: Any,
) -> Mock:
    """A message of task protocol 2; ``options`` are further headers."""
    embed = {"callbacks": signature_list(callbacks), "errbacks": signature_list(errbacks), "chain": chain}
    task_id = id or new_id()
    message = _message((list(args), dict(kwargs or {}), {**embed, "chord": None}))
    message.headers = {"id": task_id, "task": name, "shadow": shadow, **options}
    return message


def TaskMessage1(
    name: str,
    id: str | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    callbacks: Any = None,
    errbacks: Any = None,
    chain: Any = None,
    **options: Any,
) -> Mock:
    """A message of task protocol 1; ``options`` are further fields of its body."""
    fields: dict[str, Any] = {"task": name, "id": id or new_id(), "args": list(args), "kwargs": dict(kwargs or {})}
    links = {"callbacks": signature_list(callbacks), "errbacks": signature_list(errbacks), "chain": chain}
    message = _message({**fields, **links, **options})
    message.headers = {}
    return message


def task_message_from_sig(
    app: Umbel, sig: Any, utc: bool = True, TaskMessage: Callable[..., Mock] = TaskMessage
) -> Mock:
    """The message that a signature would be sent as."""
    call = sig.clone()
    call.freeze()
    options = dict(call.options)
    if (countdown := options.pop("countdown", None)) is not None:
        options["eta"] = format_moment(now() + countdown)
    if isinstance(expires := options.get("expires"), (int, float)):
        options["expires"] = format_moment(now() + expires)
    for name in ("eta", "expires"):
        if hasattr(options.get(name), "isoformat"):
            options[name] = options[name].isoformat()
    return TaskMessage(
        call.task,
        id=options.pop("task_id"),
        args=call.args,
        kwargs=call.kwargs,
        callbacks=options.pop("link", None),
        errbacks=options.pop("link_error", None),
        **options,
    )


class ContextMock(MagicMock):
    """A mock that is its own context manager, and lets exceptions through."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.__enter__.return_value = self
        self.__exit__.return_value = False

    def _get_child_mock(self, /, **kw: Any) -> MagicMock:
        return MagicMock(**kw)


def _message(payload: Any) -> Mock:
    encoded = dumps(payload, "json")
    return Mock(
        name="TaskMessage",
        payload=payload,
        body=encoded.body.decode(),
        content_type=encoded.content_type,
        content_encoding=encoded.content_encoding,
        properties={},
    )
