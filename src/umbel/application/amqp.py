"""``app.amqp``: Celery's view of an application's queues and routes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from umbel.queues import Exchange, Queue
from umbel.routing import described_queue, queue_like

if TYPE_CHECKING:
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

    argsrepr_maxsize = kwargsrepr_maxsize = 1024

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
    def utc(self) -> bool:
        return self.app.conf.enable_utc
