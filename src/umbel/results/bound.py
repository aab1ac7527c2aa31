"""The classes of results as an application has them: ``app.AsyncResult(id)``, ``app.GroupResult.restore(id)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from umbel.app import Umbel

K = TypeVar("K")


class _Bound:
    """Stands for a class of results; what it makes or restores belongs to one application."""

    def __init__(self, kind: type[Any], app: Umbel) -> None:
        self._kind = kind
        self._app = app

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("app", self._app)
        return self._kind(*args, **kwargs)

    def restore(self, id: str, backend: Any = None, app: Umbel | None = None) -> Any:
        return self._kind.restore(id, backend, app or self._app)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._kind)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kind, name)

    def __repr__(self) -> str:
        return f"<{self._kind.__name__} of {self._app!r}>"


def bound(kind: type[K], app: Umbel) -> type[K]:
    """``kind`` with ``app`` as the application where none is given."""
    return cast("type[K]", _Bound(kind, app))
