"""``celery.app.routes``: where calls go, for code that asks for it. Workers and clients use ``umbel.routing``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from umbel import routing
from umbel.compat.celery.utils.functional import maybe_evaluate, mlazy
from umbel.compat.celery.utils.imports import symbol_by_name
from umbel.current import get_current_app
from umbel.errors import UnroutableMessage

if TYPE_CHECKING:
    from umbel.app import Umbel

__all__ = ["MapRoute", "Router", "expand_router_string", "prepare"]


class MapRoute:
    """Routes by the names of tasks, by globs and by regular expressions: a dict, or pairs."""

    def __init__(self, map: Any) -> None:
        pairs = cast("Any", map.items() if isinstance(map, Mapping) else map)
        self.map: dict[Any, Any] = dict(pairs)
        self._router = routing.Router(self.map)

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        """The options for a task, or None."""
        return dict(self._router.options(name, (), {}, {}, None)) or None


class Router:
    """Finds the options of calls: the first of ``routes`` (see ``prepare``) that gives some.

    ``queues``: queues by name, default those of the application. ``create_missing``: a queue that is not among them is
    made; otherwise UnroutableMessage is raised.
    """

    def __init__(
        self,
        routes: Sequence[Any] | None = None,
        queues: Mapping[str, Any] | None = None,
        create_missing: bool = False,
        app: Umbel | None = None,
    ) -> None:
        self.app = app or get_current_app()
        self.routes: Sequence[Any] = routes or ()
        self.queues: Mapping[str, Any] = self.app.amqp.queues if queues is None else queues
        self.create_missing = create_missing

    def route(
        self,
        options: Mapping[str, Any] | None,
        name: str,
        args: Any = (),
        kwargs: Mapping[str, Any] | None = None,
        task_type: Any = None,
    ) -> dict[str, Any]:
        """The options of a call with those of its route among them; ``queue`` is a ``Queue``.

        ``options`` go before the route's. Raises UnroutableMessage.
        """
        given = self.expand_destination(dict(options or {}))
        found = self.lookup_route(name, args, kwargs, given, task_type)
        if found:
            return {**self.expand_destination(found), **given}
        if "queue" not in given:
            given = {**self.expand_destination(self.app.conf.task_default_queue), **given}
        return given

    def expand_destination(self, route: str | Mapping[str, Any]) -> dict[str, Any]:
        """A route with its queue's name replaced by the queue. Raises UnroutableMessage."""
        found: dict[str, Any] = {"queue": route} if isinstance(route, str) else dict(route)
        name = found.get("queue")
        if not isinstance(name, str):
            return found
        if name not in self.queues and not self.create_missing:
            raise UnroutableMessage(f"queue {name!r} is not among the queues of the application (task_queues)")
        return {**found, "queue": self.queues[name]}

    def lookup_route(
        self, name: str, args: Any = None, kwargs: Any = None, options: Any = None, task_type: Any = None
    ) -> Any:
        """What the first route that knows the task gives, or None."""
        answers = (self.query_router(each, name, args, kwargs, options, task_type) for each in self.routes)
        return next((answer for answer in answers if answer), None)

    def query_router(self, router: Any, task: str, args: Any, kwargs: Any, options: Any, task_type: Any) -> Any:
        """What one route gives."""
        asked = maybe_evaluate(router)
        if hasattr(asked, "route_for_task"):
            return asked.route_for_task(task, args, kwargs)
        return asked(task, args, kwargs, options, task=task_type)


def expand_router_string(router: str) -> Any:
    """The function or object of that dotted name; of a class with ``route_for_task`` an object."""
    found = symbol_by_name(router)
    return found() if isinstance(found, type) and hasattr(found, "route_for_task") else found


def prepare(routes: Any) -> Any:
    """The value of ``task_routes`` as a sequence of functions and objects; dotted names are imported when used."""
    if routes is None:
        return ()
    several = cast("Iterable[Any]", routes if isinstance(routes, (list, tuple)) else (routes,))
    return [_prepared(each) for each in several]


def _prepared(route: Any) -> Any:
    if isinstance(route, (Mapping, list, tuple)):
        return MapRoute(cast("Any", route))
    return mlazy(expand_router_string, route) if isinstance(route, str) else route
