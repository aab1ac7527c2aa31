"""What a running task knows of itself: :class:`Request`, read from a message's headers and the embed of its body."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import msgspec
from msgspec import Struct

from umbel.errors import InvalidTaskError
from umbel.message import Headers, Message, decode_headers

if TYPE_CHECKING:
    from umbel.backends.base import Result
    from umbel.result import AsyncResult, GroupResult
    from umbel.task import Task

    Int = int
    Text = str
    TimeLimit = tuple[float | None, float | None]
else:
    # Other writers of the protocol put null where Celery writes a value.
    Int = int | None
    Text = str | None
    TimeLimit = tuple[float | None, float | None] | None


PROTOCOL_HEADERS = frozenset(Headers.__struct_fields__) | {"compression"}


NOT_OWN = PROTOCOL_HEADERS | {"redelivered", "x-death"}


def _wire_name(attribute: str) -> str:
    """Keeps headers of other senders away from attributes that are not headers."""
    return attribute if attribute in PROTOCOL_HEADERS else f"umbel:{attribute}"


class Request(Struct, kw_only=True, dict=True, eq=False, rename=_wire_name):
    """The call that a task is executing; ``task.request`` inside the task.

    Fields up to ``stamps`` are the message's headers. ``called_directly``: no message at all, the task was called as
    a function. ``is_eager``: run by ``apply()``. ``timelimit``: ``(hard, soft)`` seconds of this call, None where the
    task's own holds. ``report`` stores an intermediate state; the executor sets it.
    """

    id: Text = ""
    task: Text = ""
    lang: str | None = "py"
    shadow: str | None = None
    eta: str | None = None
    expires: str | None = None
    group: str | None = None
    group_index: Int | None = None
    retries: Int = 0
    timelimit: TimeLimit = (None, None)
    root_id: str | None = None
    parent_id: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    origin: str | None = None
    ignore_result: bool | None = None
    replaced_task_nesting: Int = 0
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] | None = None
    compression: str | None = None

    args: Any = ()
    kwargs: Any = None
    callbacks: Any = None
    errbacks: Any = None
    chain: Any = None
    chord: Any = None
    hostname: str | None = None
    reply_to: str | None = None
    correlation_id: str | None = None
    called_directly: bool = True
    is_eager: bool = False
    redelivered: bool = False
    deliveries: int = 0
    utc: bool = True
    logfile: str | None = None
    loglevel: Any = None
    message: Any = None
    own_headers: Any = None
    owner_task: Any = None
    enclosing: Any = None
    reporter: Any = None
    publish: Any = ()
    results: Any = None
    parts: Any = ()
    closes: str = ""
    added: int = 0
    replacement: Any = None

    # -- who runs it --

    @property
    def owner(self) -> Task[..., Any] | None:
        """The task object that this call belongs to."""
        return self.owner_task

    @property
    def outer(self) -> Request | None:
        """The request inside whose task this one runs, if any."""
        return self.enclosing

    @property
    def report(self) -> Callable[[Result], None] | None:
        """Stores an intermediate state, where the executor has set it."""
        return self.reporter

    @report.setter
    def report(self, report: Callable[[Result], None] | None) -> None:
        self.reporter = report

    @property
    def children(self) -> list[AsyncResult[Any] | GroupResult]:
        """Results of the tasks that this one has sent."""
        if self.results is None:
            self.results = []
        return self.results

    # -- the message --

    @property
    def headers(self) -> dict[str, Any]:
        """Headers of the message that are not the protocol's: the user's own."""
        if self.own_headers is None:
            message = cast("Message | None", self.message)
            found = decode_headers(message.headers) if message is not None else {}
            self.own_headers = {name: value for name, value in found.items() if name not in NOT_OWN}
        return self.own_headers

    @headers.setter
    def headers(self, headers: Mapping[str, Any] | None) -> None:
        self.own_headers = dict(headers or {})

    @property
    def delivery_info(self) -> dict[str, Any]:
        """How the message came: exchange, routing_key, priority, redelivered; ``is_eager`` when there was none."""
        message = cast("Message | None", self.message)
        if message is None:
            return {"is_eager": self.is_eager, "exchange": None, "routing_key": None, "priority": None}
        return {
            "exchange": message.exchange,
            "routing_key": message.routing_key or message.queue,
            "priority": message.priority,
            "redelivered": self.redelivered,
        }

    @property
    def properties(self) -> dict[str, Any]:
        """The message's properties under AMQP's names."""
        message = cast("Message | None", self.message)
        if message is None:
            return {}
        return {
            "correlation_id": message.correlation_id or message.id,
            "reply_to": message.reply_to,
            "content_type": message.content_type,
            "content_encoding": message.content_encoding,
            "delivery_mode": message.delivery_mode,
            "priority": message.priority,
            "delivery_info": self.delivery_info,
        }

    @property
    def time_limit(self) -> float | None:
        """Hard time limit of this call in seconds, None where the task's own holds."""
        return self.timelimit[0]

    @property
    def soft_time_limit(self) -> float | None:
        return self.timelimit[1]

    @property
    def taskset(self) -> str | None:
        """Old name of ``group``."""
        return self.group

    # -- as a mapping --

    def get(self, key: str, default: Any = None) -> Any:
        return getattr(self, key, default)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set attributes, as ``dict.update`` takes them."""
        for name, value in dict(*args, **kwargs).items():
            setattr(self, name, value)

    def clear(self) -> None:
        """Set all attributes to what they are without a call."""
        for name in list(self.__dict__):
            delattr(self, name)
        empty = Request()
        for name in self.__struct_fields__:
            setattr(self, name, getattr(empty, name))

    def as_execution_options(self) -> dict[str, Any]:
        """Options of ``apply_async`` that send this call once more."""
        return {
            "task_id": self.id,
            "root_id": self.root_id,
            "parent_id": self.parent_id,
            "group_id": self.group,
            "group_index": self.group_index,
            "shadow": self.shadow,
            "chord": self.chord,
            "chain": self.chain,
            "link": self.callbacks,
            "link_error": self.errbacks,
            "expires": self.expires,
            "time_limit": self.time_limit,
            "soft_time_limit": self.soft_time_limit,
            "headers": dict(self.headers),
            "retries": self.retries,
            "reply_to": self.reply_to,
            "replaced_task_nesting": self.replaced_task_nesting,
            "stamped_headers": self.stamped_headers,
            **(self.stamps or {}),
        }


_decode = msgspec.json.Decoder(Request, strict=False).decode


def read_request(message: Message) -> Request:
    """The request in the headers of ``message``; the body is not looked at.

    Raises InvalidTaskError when a header has a type that the protocol does not allow.
    """
    try:
        request = _decode(message.headers)
    except msgspec.MsgspecError as error:
        raise InvalidTaskError(f"message headers cannot be read: {error}") from error
    if request.retries is None or request.timelimit is None or request.replaced_task_nesting is None:  # pyright: ignore[reportUnnecessaryComparison]
        request.retries = request.retries or 0
        request.timelimit = request.timelimit or (None, None)
        request.replaced_task_nesting = request.replaced_task_nesting or 0
    request.id = message.id
    request.task = message.task
    request.message = message
    request.called_directly = False
    request.reply_to = message.reply_to
    request.correlation_id = message.correlation_id or message.id
    return request
