"""The application and the request that are current here: the only global state of Umbel.

The application is the one whose task runs, else the one made or chosen last with ``set_as_current``. The request is
a context variable, so that every thread and every coroutine has its own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.request import Request
    from umbel.task import Task

_request: ContextVar[Request | None] = ContextVar("umbel_request", default=None)
_default: list[Umbel] = []
_makers: list[Callable[[], Umbel]] = []

current_request = _request.get
"""The request of the innermost task that runs here, or None."""


def push_request(request: Request) -> Token[Request | None]:
    """Make ``request`` the current one; the token ends that."""
    return _request.set(request)


def pop_request(token: Token[Request | None]) -> None:
    _request.reset(token)


def drop_request() -> Request | None:
    """Make the request around the current one current, without a token; returns the one dropped."""
    request = _request.get()
    if request is not None:
        _request.set(request.outer)
    return request


def set_default_app(app: Umbel) -> None:
    """The application of code that runs outside of tasks."""
    _default[:] = [app]


def default_app() -> Umbel | None:
    return _default[0] if _default else None


def forget_app(app: Umbel) -> None:
    if _default and _default[0] is app:
        _default.clear()


def get_current_app() -> Umbel:
    """The current application; one without name and configuration is made when there is none."""
    request = _request.get()
    if request is not None and request.owner is not None:
        return request.owner.app
    if not _default:
        set_default_app(_makers[0]() if _makers else _plain())
    return _default[0]


def _plain() -> Umbel:
    from umbel.app import Umbel

    return Umbel("default", set_as_current=False)


def set_default_maker(make: Callable[[], Umbel]) -> None:
    """Let ``make`` give the application that is current where none was made."""
    _makers[:] = [make]


def get_current_task() -> Task[..., Any] | None:
    """The task that runs here, or None."""
    request = _request.get()
    return request.owner if request is not None else None


class _Current:
    """Stands for whatever is current at the moment of each use."""

    __slots__ = ("_find",)

    def __init__(self, find: Any) -> None:
        object.__setattr__(self, "_find", find)

    def _get_current_object(self) -> Any:
        return object.__getattribute__(self, "_find")()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._get_current_object(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._get_current_object(), name, value)

    def __bool__(self) -> bool:
        return self._get_current_object() is not None

    def __eq__(self, other: object) -> bool:
        return self._get_current_object() == other

    def __hash__(self) -> int:
        return hash(self._get_current_object())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._get_current_object()(*args, **kwargs)

    def __repr__(self) -> str:
        return repr(self._get_current_object())


current_app = cast("Umbel", _Current(get_current_app))
current_task = cast("Task[..., Any]", _Current(get_current_task))
