"""From a call of a task to the message that carries it: options merged, routed, serialized.

The way is ``prepare`` (one call → one :class:`Message`, nothing sent yet) and ``Umbel.publish`` (many messages, one
round trip). Everything that a message can be refused for is raised by ``prepare``: EncodeError, MessageTooLarge,
UnroutableMessage, TypeError for unknown options.
"""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, cast

from umbel.announcing import Draft, before_publish
from umbel.codecs import compress, dumps
from umbel.codecs.representation import safe_repr
from umbel.current import current_request
from umbel.errors import ConfigurationError, InvalidCanvas, MessageTooLarge
from umbel.message import Headers, Message, encode_headers, format_moment, new_id, now, origin
from umbel.middleware import Call
from umbel.signals import before_task_publish

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.config import Settings
    from umbel.queues import Exchange, Queue
    from umbel.request import Request
    from umbel.task import Task

Moment = datetime.datetime | str


class SendOptions(TypedDict, total=False):
    """Options of ``apply_async``, ``send_task`` and signatures. Times are seconds or moments.

    ``retry``/``retry_policy``/``timeout``/``confirm_timeout`` shorten the one deadline ``publish_timeout``;
    ``connection``, ``publisher``, ``mandatory``, ``immediate`` and ``declare`` are accepted for Celery's sake.
    """

    countdown: float | None
    eta: Moment | None
    expires: float | datetime.timedelta | Moment | None
    priority: int | None
    queue: str | Queue | None
    exchange: str | Exchange | None
    exchange_type: str | None
    routing_key: str | None
    delivery_mode: int | str | None
    serializer: str | None
    compression: str | None
    headers: Mapping[str, Any] | None
    time_limit: float | None
    soft_time_limit: float | None
    ignore_result: bool | None
    add_to_parent: bool
    group_id: str | None
    group_index: int | None
    chord: Any
    chain: Any
    root_id: str | None
    parent_id: str | None
    retries: int
    reply_to: str | None
    correlation_id: str | None
    stamped_headers: list[str] | None
    stamps: Mapping[str, Any] | None
    replaced_task_nesting: int
    retry: bool
    retry_policy: Mapping[str, Any] | None
    timeout: float | None
    confirm_timeout: float | None
    argsrepr: str | None
    kwargsrepr: str | None
    origin: str | None
    router: Any
    result_cls: Any
    task_type: Any
    route_name: str | None
    expiration: float | None
    mandatory: bool
    immediate: bool
    declare: Any
    connection: Any
    publisher: Any
    throw: bool


KNOWN_OPTIONS = frozenset(SendOptions.__annotations__) | {"producer", "task_id", "link", "link_error", "shadow"}
TASK_DEFAULTS = (
    "queue",
    "exchange",
    "routing_key",
    "priority",
    "expires",
    "serializer",
    "compression",
    "delivery_mode",
    "time_limit",
    "soft_time_limit",
    "ignore_result",
)
"""Options that a task may have as attributes."""

WITH_EXTRA = frozenset({"headers", "stamps", "stamped_headers"})
NO_KWARGS: dict[str, Any] = {}
EMPTY_EMBED: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def check_options(options: Mapping[str, Any]) -> None:
    """Raise TypeError for an option that does not exist and is no stamp, with the nearest name."""
    for name in options.keys() - KNOWN_OPTIONS:
        if name in (options.get("stamped_headers") or ()):
            continue
        close = difflib.get_close_matches(name, KNOWN_OPTIONS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise TypeError(f"unknown execution option {name!r}: {hint}(stamps must be named in stamped_headers)")


def defaults_of(task: Task[..., Any]) -> dict[str, Any]:
    """The options that a task's attributes give."""
    found = {name: getattr(task, name, None) for name in TASK_DEFAULTS}
    return {name: value for name, value in found.items() if value is not None}


def prepare(
    app: Umbel,
    name: str,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    options: Mapping[str, Any],
    task: Task[..., Any] | None = None,
    *,
    inside: bool = False,
) -> Message:
    """The message of one call.

    ``options`` go before the routes' options, those before the task's own attributes. Inside a task, the message gets
    that task's id as parent. ``inside``: the application's middlewares have been passed.
    """
    conf = app.conf
    args = () if args is None else args
    kwargs = NO_KWARGS if kwargs is None else kwargs
    check_arguments(args, kwargs)
    if app.middleware.publishing is not None and not inside:
        return app.middleware.publishing(_call(name, args, cast("Any", kwargs), options, task))
    if options:
        check_options(options)
        options = {key: value for key, value in options.items() if value is not None}
    given = options
    routed = app.routes.router.options(options.get("route_name") or name, args, kwargs, options, task)
    defaults = task.send_defaults() if task is not None else None
    if routed or defaults:
        options = {**(defaults or {}), **routed, **options}
    address = app.routes.address(options)
    task_id = options.get("task_id") or new_id()
    headers = Headers(
        task=name,
        id=task_id,
        root_id=task_id,
        argsrepr=options.get("argsrepr") or safe_repr(args, 1024, conf.task_repr_maxlevels),
        kwargsrepr=options.get("kwargsrepr") or (safe_repr(kwargs, 1024, conf.task_repr_maxlevels) if kwargs else "{}"),
        origin=options.get("origin") or origin(),
        ignore_result=False if task is not None else None,
    )
    priority = options.get("priority")
    parent = sending_task()
    if parent is not None:
        headers.root_id = parent.root_id or parent.id
        headers.parent_id = parent.id
        if "priority" not in given and conf.task_inherit_parent_priority:
            priority = parent.delivery_info["priority"]
    if options:
        _set_headers(headers, options)
    eta = expires = None
    extra: dict[str, Any] = {}
    if options:
        if "countdown" in options or "eta" in options:
            eta, headers.eta = _eta(app, options)
        if "expires" in options:
            expires, headers.expires = _expires(app, options["expires"])
        if not WITH_EXTRA.isdisjoint(options):
            extra = _extra(options, headers)
    if priority is None:
        priority = conf.task_default_priority or 0
    reply_to = options.get("reply_to") or app.reply_address()
    correlation_id = options.get("correlation_id") or task_id
    delivery_mode = address.delivery_mode
    serializer = options.get("serializer") or conf.task_serializer
    embed = _embed(options, serializer) if options else EMPTY_EMBED
    if before_task_publish.receivers:
        parts = cast("Any", (args, kwargs, embed))
        draft = Draft(headers, extra, parts, eta, expires, priority, reply_to, correlation_id, delivery_mode)
        draft = before_publish(draft, address, options)
        args, kwargs, embed = draft.parts
        headers, extra, eta, expires = draft.headers, draft.extra, draft.eta, draft.expires
        priority, reply_to, correlation_id = draft.priority, draft.reply_to, draft.correlation_id
        name, task_id, delivery_mode = headers.task, headers.id, draft.delivery_mode
    encoded = dumps((args, kwargs, embed), serializer)
    body = encoded.body
    compression = options.get("compression") or conf.task_compression
    if compression:
        body, extra["compression"] = compress(body, compression)
    check_size(conf, name, body)
    if conf.task_protocol != 2:
        raise ConfigurationError("task_protocol 1 can be read but not written; set it to 2")
    return Message(
        id=task_id,
        task=name,
        queue=address.queue.name,
        headers=encode_headers(headers, extra),
        body=body,
        content_type=encoded.content_type,
        content_encoding=encoded.content_encoding,
        priority=priority,
        eta=eta,
        expires=expires,
        reply_to=reply_to,
        correlation_id=correlation_id,
        exchange=address.exchange,
        routing_key=address.routing_key,
        delivery_mode=delivery_mode,
    )


async def aprepare(
    app: Umbel,
    name: str,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    options: Mapping[str, Any],
    task: Task[..., Any] | None = None,
) -> Message:
    """As ``prepare``, for async code: what middlewares have for it is awaited in its loop."""
    apublish = app.middleware.apublishing
    if apublish is None:
        return app.templates.message(name, args, kwargs, options, task)
    args = () if args is None else args
    kwargs = NO_KWARGS if kwargs is None else kwargs
    check_arguments(args, kwargs)
    return await apublish(_call(name, args, kwargs, options, task))


def sending_task() -> Request | None:
    """The request of the task that sends, where one runs here that was sent itself."""
    request = current_request()
    return None if request is None or request.called_directly else request


def check_arguments(args: Any, kwargs: Any) -> None:
    """Raise TypeError for what cannot be the arguments of a call."""
    if not isinstance(args, (list, tuple)):
        raise TypeError(f"args must be a list or tuple, not {type(args).__name__}")
    if type(kwargs) is not dict and not isinstance(kwargs, Mapping):
        raise TypeError(f"kwargs must be a mapping, not {type(kwargs).__name__}")


def check_size(conf: Settings, name: str, body: bytes) -> None:
    """Raise MessageTooLarge for a body above ``message_max_bytes``."""
    if len(body) > conf.message_max_bytes:
        raise MessageTooLarge(
            f"the message for task {name} has {len(body)} bytes, message_max_bytes allows {conf.message_max_bytes}"
        )


def _call(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any], task: Task[..., Any] | None
) -> Call:
    """What middlewares get: a copy of all that they may change."""
    given = {key: value for key, value in options.items() if value is not None}
    if "headers" in given:
        given["headers"] = dict(given["headers"])
    return Call(name, list(args), dict(kwargs), given, task)


def publish_deadline(app: Umbel, options: Mapping[str, Any]) -> float:
    """Seconds that sending may take in all: ``publish_timeout``, or less where the options say so."""
    conf = app.conf
    limit: float = conf.publish_timeout
    attempt: float = conf.broker_connection_timeout
    if not conf.task_publish_retry and not options.get("retry"):
        limit = min(limit, attempt)
    if not options:
        return limit
    for name in ("timeout", "confirm_timeout"):
        value = options.get(name)
        if value is not None:
            limit = min(limit, float(value))
    if options.get("retry") is False:
        return min(limit, attempt)
    policy = options.get("retry_policy")
    if policy is not None and policy.get("max_retries") is not None:
        step, most = float(policy.get("interval_step") or 0), float(policy.get("interval_max") or 0)
        pauses = [
            min(float(policy.get("interval_start") or 0) + step * n, most) for n in range(int(policy["max_retries"]))
        ]
        limit = min(limit, attempt + sum(pauses))
    return limit


# -- parts of a message ----------------------------------------------------------------------------


def _set_headers(headers: Headers, options: Mapping[str, Any]) -> None:
    """The headers that options name; ``options`` has no values that are None."""
    headers.shadow = options.get("shadow")
    headers.group = options.get("group_id")
    headers.group_index = options.get("group_index")
    headers.retries = options.get("retries", 0)
    headers.root_id = options.get("root_id") or headers.root_id
    headers.parent_id = options.get("parent_id") or headers.parent_id
    headers.ignore_result = options.get("ignore_result", headers.ignore_result)
    headers.replaced_task_nesting = options.get("replaced_task_nesting", 0)
    if "time_limit" in options or "soft_time_limit" in options:
        headers.timelimit = (options.get("time_limit"), options.get("soft_time_limit"))


def _extra(options: Mapping[str, Any], headers: Headers) -> dict[str, Any]:
    """The user's own headers; stamps are put into ``headers``."""
    extra = dict(options["headers"]) if "headers" in options else {}
    stamped = options.get("stamped_headers") or extra.pop("stamped_headers", None)
    stamps = dict(options.get("stamps") or extra.pop("stamps", None) or {})
    if stamped:
        headers.stamped_headers = list(stamped)
        for name in stamped:
            if name in options:
                stamps[name] = options[name]
    headers.stamps = stamps
    return extra


def _embed(options: Mapping[str, Any], serializer: str) -> dict[str, Any]:
    """What follows the call. As JSON signatures are written as they are; other serializers need plain dicts."""
    link, link_error = options.get("link"), options.get("link_error")
    chain, chord = options.get("chain"), options.get("chord")
    if link is None and link_error is None and chain is None and chord is None:
        return EMPTY_EMBED
    if serializer == "json" and not link and not link_error:
        return {**EMPTY_EMBED, "chain": chain and list(chain), "chord": chord}
    try:
        return {
            "callbacks": signature_list(link),
            "errbacks": signature_list(link_error),
            "chain": None if chain is None else [plain(item) for item in chain],
            "chord": None if chord is None else plain(chord),
        }
    except RecursionError as error:
        raise InvalidCanvas("a signature contains or links itself, or is nested too deeply") from error


def signature_list(links: Any) -> list[Any] | None:
    """One signature or several, as a list of plain dicts."""
    if links is None:
        return None
    if isinstance(links, Mapping):
        return [plain(links)]
    return [plain(item) for item in cast("Iterable[Any]", links)]


def plain(value: Any) -> Any:
    """Signatures in ``value``, at any depth of dicts and lists, as plain dicts."""
    if isinstance(value, Mapping):
        return {key: plain(held) for key, held in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [plain(held) for held in cast("Iterable[Any]", value)]
    return value


def _eta(app: Umbel, options: Mapping[str, Any]) -> tuple[float, str]:
    countdown = options.get("countdown")
    if countdown is not None:
        moment = now() + (countdown.total_seconds() if isinstance(countdown, datetime.timedelta) else float(countdown))
        return moment, _written(app, moment)
    return _moment(app, options["eta"], "eta")


def _expires(app: Umbel, expires: Any) -> tuple[float, str]:
    if isinstance(expires, datetime.timedelta):
        expires = expires.total_seconds()
    if isinstance(expires, (int, float)):
        moment = now() + expires
        return moment, _written(app, moment)
    return _moment(app, expires, "expires")


def _moment(app: Umbel, value: Any, name: str) -> tuple[float, str]:
    """Unix time and wire form. A naive moment is in the application's time zone and stays naive where that is UTC."""
    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(value)
    if not isinstance(value, datetime.datetime):
        raise TypeError(f"{name} must be a datetime, not {type(value).__name__}")
    if value.tzinfo is not None:
        return value.timestamp(), value.isoformat()
    aware = value.replace(tzinfo=app.timezone)
    naive_is_right = app.timezone is datetime.UTC or str(app.timezone) == "UTC"
    return aware.timestamp(), value.isoformat() if naive_is_right else aware.isoformat()


def _written(app: Umbel, moment: float) -> str:
    if app.conf.enable_utc:
        return format_moment(moment)
    return datetime.datetime.fromtimestamp(moment, app.timezone).isoformat()
