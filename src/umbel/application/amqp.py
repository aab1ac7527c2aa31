"""``app.amqp``: Celery's view of an application's queues and routes."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from umbel.application import task_messages
from umbel.application.task_messages import task_message
from umbel.queues import Exchange, Queue
from umbel.routing import described_queue, missing_queue, queue_like

if TYPE_CHECKING:
    import datetime

    from umbel.app import Umbel
    from umbel.application.connections import Pool
    from umbel.task import Task


class Queues(Mapping[str, Queue]):
    """The queues of an application by name: those configured, those added here, and those that came into use.

    A name that is not among them is made a queue of, unless ``task_create_missing_queues`` is off; then
    UnroutableMessage is raised.
    """

    def __init__(self, app: Umbel) -> None:
        self._app = app

    def __getitem__(self, name: str) -> Queue:
        return self._app.routes.queue(name)

    def __contains__(self, name: object) -> bool:
        return name in self._app.routes.queues()

    def __iter__(self) -> Iterator[str]:
        return iter(self._app.routes.queues())

    def __len__(self) -> int:
        return len(self._app.routes.queues())

    @property
    def consume_from(self) -> Mapping[str, Queue]:
        """The queues for workers that are told nothing else: those selected, or all that are configured."""
        return self._app.routes.consumed()

    def add(self, queue: Any, **kwargs: Any) -> Queue:
        """Know a queue, without consuming from it; returns it.

        ``queue``: a ``Queue``, or a name with ``exchange``, ``exchange_type``, ``routing_key`` …
        """
        made = described_queue(self._app.conf, queue, kwargs) if isinstance(queue, str) else queue_like(queue)
        self._app.routes.add(made)
        return made

    def add_compat(self, name: str, **options: Any) -> Queue:
        """``add`` a queue described as in a dict of ``task_queues``; ``binding_key`` goes before ``routing_key``."""
        if "binding_key" in options:
            options["routing_key"] = options.pop("binding_key")
        return self.add(name, **options)

    def new_missing(self, name: str) -> Queue:
        """What a queue of a name that is not among them would be; it is not added."""
        return missing_queue(self._app.conf, name)

    def format(self, indent: int = 0, indent_first: bool = True) -> str:
        """The queues that are consumed from, one a line, each indented by so many spaces."""
        lines = [
            f".> {name:<16} exchange={queue.exchange_name}({queue.exchange.type}) key={queue.binding_key}"
            for name, queue in sorted(self.consume_from.items())
        ]
        text = textwrap.indent("\n".join(lines), " " * indent)
        return text if indent_first else text[indent:]

    def select(self, include: Sequence[str] | str | None) -> None:
        """Let workers consume from these queues only."""
        self._app.routes.select(include)

    def select_add(self, queue: Any, **kwargs: Any) -> Queue:
        """``add`` a queue, and let workers consume from it as well."""
        selected = list(self.consume_from)
        made = self.add(queue, **kwargs)
        self._app.routes.select([*selected, made.name])
        return made

    def deselect(self, exclude: Sequence[str] | str) -> None:
        """Let workers not consume from these queues."""
        self._app.routes.deselect(exclude)


class Router:
    """Where calls go, by ``task_routes``."""

    def __init__(self, app: Umbel) -> None:
        self._app = app

    def route(
        self,
        options: Mapping[str, Any] | None,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        task_type: Task[..., Any] | None = None,
    ) -> dict[str, Any]:
        """The execution options of a call with the route's among them; ``queue`` is a ``Queue``.

        ``options`` go before the route's. Raises UnroutableMessage.
        """
        given = {key: value for key, value in (options or {}).items() if value is not None}
        routes, kwargs = self._app.routes, dict(kwargs or {})
        found = {**routes.router.options(given.get("route_name") or name, args, kwargs, given, task_type), **given}
        queue = found.get("queue")
        if isinstance(queue, str):
            found["queue"] = routes.queue(queue)
        elif queue is None:
            found["queue"] = routes.queue(self._app.conf.task_default_queue)
        return found


class AMQP:
    """Queues, routes, and what messages say by default."""

    argsrepr_maxsize = kwargsrepr_maxsize = task_messages.REPR_SIZE
    queues_cls = Queues
    autoexchange = None

    def __init__(self, app: Umbel) -> None:
        self.app = app
        self.queues = Queues(app)
        self.router = Router(app)

    @property
    def routes(self) -> Any:
        """What ``task_routes`` says."""
        return self.app.conf.task_routes

    def flush_routes(self) -> None:
        """Nothing needs to be done: routes are compiled anew when ``task_routes`` has changed."""

    @property
    def default_queue(self) -> Queue:
        """The queue of tasks without a route."""
        return self.queues[self.app.conf.task_default_queue]

    @property
    def default_exchange(self) -> Exchange:
        conf = self.app.conf
        name = conf.task_default_exchange or conf.task_default_queue
        return Exchange(name=name, type=conf.task_default_exchange_type)

    @property
    def producer_pool(self) -> Pool:
        return self.app.producer_pool

    @property
    def publisher_pool(self) -> Pool:
        """The same as ``producer_pool``."""
        return self.app.producer_pool

    # -- messages of tasks --

    def as_task_v2(
        self,
        task_id: str,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        countdown: float | None = None,
        eta: Any = None,
        group_id: str | None = None,
        group_index: int | None = None,
        expires: Any = None,
        retries: int = 0,
        chord: Any = None,
        callbacks: Any = None,
        errbacks: Any = None,
        reply_to: str | None = None,
        time_limit: float | None = None,
        soft_time_limit: float | None = None,
        create_sent_event: bool = False,
        root_id: str | None = None,
        parent_id: str | None = None,
        shadow: str | None = None,
        chain: Any = None,
        now: datetime.datetime | None = None,
        timezone: datetime.tzinfo | None = None,
        origin: str | None = None,
        ignore_result: bool = False,
        argsrepr: str | None = None,
        kwargsrepr: str | None = None,
        stamped_headers: list[str] | None = None,
        replaced_task_nesting: int = 0,
        **options: Any,
    ) -> task_message:
        """A call as the parts of a message of protocol 2, the one that is used; nothing is sent.

        ``countdown`` and ``expires`` are seconds from ``now``, or moments. ``options``: stamps, named in
        ``stamped_headers``. Raises TypeError for arguments that are none.
        """
        return task_messages.in_protocol_2(self.app, task_id, name, args, kwargs, create_sent_event, locals())

    def as_task_v1(
        self,
        task_id: str,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        countdown: float | None = None,
        eta: Any = None,
        group_id: str | None = None,
        group_index: int | None = None,
        expires: Any = None,
        retries: int = 0,
        chord: Any = None,
        callbacks: Any = None,
        errbacks: Any = None,
        reply_to: str | None = None,
        time_limit: float | None = None,
        soft_time_limit: float | None = None,
        create_sent_event: bool = False,
        root_id: str | None = None,
        parent_id: str | None = None,
        shadow: str | None = None,
        now: datetime.datetime | None = None,
        timezone: datetime.tzinfo | None = None,
        **compat_kwargs: Any,
    ) -> task_message:
        """A call as the parts of a message of protocol 1, which workers understand but Umbel does not send."""
        return task_messages.in_protocol_1(self.app, task_id, name, args, kwargs, create_sent_event, locals())

    @property
    def create_task_message(self) -> Callable[..., task_message]:
        """How calls are made messages: ``as_task_v2``."""
        return self.as_task_v2

    @property
    def send_task_message(self) -> Callable[..., None]:
        """``send_task_message(producer, name, message, **options)``: send what ``as_task_v2`` made.

        ``options``: where to and how, as those of ``apply_async``; by default as ``task_routes`` says. The producer has
        no effect, nor has ``name``: the message says which task is called.
        """

        def send(producer: Any, name: str, message: task_message, **options: Any) -> None:
            task_messages.send(self.app, message, {**self.app.routes.router.options(name, (), {}, {}, None), **options})

        return send

    @property
    def utc(self) -> bool:
        return self.app.conf.enable_utc
