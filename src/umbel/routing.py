"""Where a task goes: the configured queues, and the routes that choose among them.

``task_routes`` is a router or a list of routers, asked in order; the first answer wins. A router is a dict by task
name, glob or compiled pattern, a list of such pairs, a function ``(name, args, kwargs, options, task=None)``, an object
with a method ``route_for_task``, or the dotted name of one. An answer is a queue's name or a dict of options.
"""

from __future__ import annotations

import fnmatch
import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct

from umbel.errors import ConfigurationError, UnroutableMessage
from umbel.queues import Exchange, Queue

if TYPE_CHECKING:
    from umbel.config import Settings
    from umbel.task import Task

Options = Mapping[str, Any]
Lookup = Callable[[str, Any, Any, Options, "Task[..., Any] | None"], "Options | None"]

NOTHING: Options = {}
ROUTING_OPTIONS = frozenset({"exchange", "exchange_type", "routing_key", "delivery_mode"})
"""Options other than ``queue`` that an address depends on."""


class Address(Struct, frozen=True):
    """Where a message is published to. ``queue`` is empty when only an exchange is known."""

    queue: Queue
    exchange: str
    routing_key: str
    delivery_mode: int


def configured_queues(conf: Settings) -> dict[str, Queue]:
    """The queues of ``task_queues``, or the default queue alone, by name, or by alias (kombu's ``Broadcast``)."""
    given = conf.task_queues
    if not given:
        return {conf.task_default_queue: default_queue(conf)}
    if isinstance(given, dict):
        queues = [described_queue(conf, name, options or {}) for name, options in given.items()]
    else:
        queues = [described_queue(conf, item, {}) if isinstance(item, str) else queue_like(item) for item in given]
    return {getattr(item, "alias", None) or queue.name: queue for item, queue in zip(given, queues, strict=True)}


def default_queue(conf: Settings) -> Queue:
    """The queue of tasks without a route."""
    return Queue(
        name=conf.task_default_queue,
        exchange=Exchange(name=conf.task_default_exchange or "", type=conf.task_default_exchange_type),
        routing_key=conf.task_default_routing_key or "",
        max_priority=conf.task_queue_max_priority,
        queue_arguments=_queue_type(conf.task_default_queue_type),
    )


def missing_queue(conf: Settings, name: str) -> Queue:
    """A queue that nobody configured. Raises UnroutableMessage where ``task_create_missing_queues`` forbids it."""
    if name == conf.task_default_queue:
        return default_queue(conf)
    if not conf.task_create_missing_queues:
        raise UnroutableMessage(f"queue {name!r} is not in task_queues, and task_create_missing_queues is off")
    kind = conf.task_create_missing_queue_exchange_type or conf.task_default_exchange_type
    return Queue(
        name=name,
        exchange=Exchange(type=kind),
        max_priority=conf.task_queue_max_priority,
        queue_arguments=_queue_type(conf.task_create_missing_queue_type),
    )


OWN_SIDE = ".umbel"


def own_side(conf: Settings, name: str) -> Queue:
    """The queue beside another one through which Umbel's workers send each other what those of Celery do not know, and
    would drop; in mixed fleets."""
    own = name if name.endswith(OWN_SIDE) else name + OWN_SIDE
    return Queue(name=own, queue_arguments=_queue_type(conf.task_default_queue_type))


def _queue_type(kind: str) -> dict[str, Any]:
    return {} if kind == "classic" else {"x-queue-type": kind}


_ARGUMENTS = frozenset(Queue.__struct_fields__) - {"name", "exchange"}


def described_queue(conf: Settings, name: str, options: Options) -> Queue:
    """A queue given by name and Celery's dict of options (``exchange``, ``exchange_type``, ``routing_key`` …)."""
    known = {key: value for key, value in options.items() if key in _ARGUMENTS}
    unknown = set(options) - _ARGUMENTS - {"exchange", "exchange_type", "binding_key", "name"}
    if unknown:
        raise ConfigurationError(f"queue {name!r} in task_queues has unknown options: {', '.join(sorted(unknown))}")
    exchange = options.get("exchange", "")
    if isinstance(exchange, str):
        exchange = Exchange(name=exchange, type=options.get("exchange_type") or conf.task_default_exchange_type)
    known.setdefault("routing_key", options.get("binding_key", ""))
    known.setdefault("max_priority", conf.task_queue_max_priority)
    return Queue(name=name, exchange=exchange, **known)


def queue_like(queue: Any) -> Queue:
    """``queue``, or what an object with the attributes of a kombu queue says."""
    if isinstance(queue, Queue):
        return queue
    try:
        found = {key: getattr(queue, key) for key in _ARGUMENTS if getattr(queue, key, None) is not None}
        exchange = queue.exchange
        fields = ("name", "type", "durable", "auto_delete", "delivery_mode", "arguments")
        described = {key: getattr(exchange, key) for key in fields if getattr(exchange, key, None) is not None}
        return Queue(name=queue.name, exchange=Exchange(**described), **found)
    except AttributeError as error:
        raise ConfigurationError(f"task_queues has {queue!r}, which is no queue: {error}") from error


class Router:
    """The routes of ``task_routes``, compiled once. Answers of dicts are remembered by task name."""

    def __init__(self, routes: Any) -> None:
        several = isinstance(routes, (list, tuple)) and not _is_pairs(cast("list[Any]", routes))
        routers = cast("list[Any]", routes if several else [routes])
        self._lookups = [self._compile(router) for router in routers if router]
        self._static = all(getattr(lookup, "static", False) for lookup in self._lookups)
        self._known: dict[str, Options] = {}

    @property
    def static(self) -> bool:
        """Whether a route depends on the task's name only."""
        return self._static

    def options(self, name: str, args: Any, kwargs: Any, options: Options, task: Task[..., Any] | None) -> Options:
        """The options that the first matching route gives; empty when none matches."""
        if not self._lookups:
            return NOTHING
        if self._static:
            known = self._known.get(name)
            if known is not None:
                return known
        for lookup in self._lookups:
            found = lookup(name, args, kwargs, options, task)
            if found:
                break
        else:
            found = NOTHING
        if self._static:
            self._known[name] = found
        return found

    def _compile(self, router: Any) -> Lookup:
        if isinstance(router, str):
            router = _imported(router)
        if isinstance(router, Mapping):
            return _table(cast("Mapping[Any, Any]", router).items())
        if isinstance(router, (list, tuple)):
            return _table(cast("Iterable[tuple[Any, Any]]", router))
        method = getattr(router, "route_for_task", None)
        if method is not None:
            return lambda name, args, kwargs, options, task: _answer(method(name, args, kwargs))
        if callable(router):
            return lambda name, args, kwargs, options, task: _answer(router(name, args, kwargs, options, task=task))
        raise ConfigurationError(f"task_routes has {router!r}, which is no dict, list, function or dotted name")


def _is_pairs(routes: Any) -> bool:
    return bool(routes) and all(
        isinstance(item, (list, tuple)) and len(cast("list[Any]", item)) == 2 and isinstance(item[0], (str, re.Pattern))
        for item in routes
    )


def _table(items: Iterable[tuple[Any, Any]]) -> Lookup:
    exact: dict[str, Options] = {}
    patterns: list[tuple[re.Pattern[str], Options]] = []
    for key, value in items:
        answer = _answer(value) or NOTHING
        if isinstance(key, re.Pattern):
            patterns.append((cast("re.Pattern[str]", key), answer))
        elif any(letter in key for letter in "*?["):
            patterns.append((re.compile(fnmatch.translate(key)), answer))
        else:
            exact[key] = answer

    def lookup(name: str, args: Any, kwargs: Any, options: Options, task: Any) -> Options | None:
        found = exact.get(name)
        if found is not None:
            return found
        return next((answer for pattern, answer in patterns if pattern.match(name)), None)

    lookup.static = True  # pyright: ignore[reportFunctionMemberAccess]
    return lookup


def _answer(value: Any) -> Options | None:
    if value is None:
        return None
    if isinstance(value, (str, Queue)):
        return {"queue": value}
    if isinstance(value, Mapping):
        return cast("Options", value)
    raise ConfigurationError(f"a route must be a queue's name or a dict of options, not {value!r}")


def _imported(path: str) -> Any:
    module, colon, name = path.partition(":")
    if not colon:
        module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"task_routes names {path!r}, which cannot be imported: {error}") from error
    return found() if isinstance(found, type) else found


_MODES = {"transient": 1, "persistent": 2}


def delivery_mode(value: int | str) -> int:
    return _MODES.get(value, 2) if isinstance(value, str) else value


def address_of(conf: Settings, queues: dict[str, Queue], options: Options) -> Address:
    """The address that ``queue``, ``exchange``, ``routing_key``, ``exchange_type`` and ``delivery_mode`` in
    ``options`` mean. A queue with a direct exchange is addressed by its name through the default exchange."""
    given, exchange, key = options.get("queue"), options.get("exchange"), options.get("routing_key")
    if exchange is not None and not isinstance(exchange, str):
        exchange = str(exchange.name)
    mode = options.get("delivery_mode")
    if given is None and exchange:
        name = key or conf.task_default_routing_key or conf.task_default_queue
        return Address(Queue(name=name), exchange, name, delivery_mode(mode or conf.task_default_delivery_mode))
    if given is None or isinstance(given, str):
        name = given or conf.task_default_queue
        queue = queues.get(name)
        if queue is None:
            queue = queues[name] = missing_queue(conf, name)
    else:
        queue = queue_like(given)
    if mode is None:
        mode = queue.exchange.delivery_mode if queue.exchange.delivery_mode != 2 else conf.task_default_delivery_mode
    kind = options.get("exchange_type") or queue.exchange.type
    if kind == "direct" and (not exchange or not key):
        return Address(queue, "", queue.name, delivery_mode(mode))
    return Address(queue, exchange or queue.exchange_name, key or queue.binding_key, delivery_mode(mode))
