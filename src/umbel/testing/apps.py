"""Applications for tests: each with a broker and a result store of its own in the memory of the process."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn, cast

from umbel.app import Umbel
from umbel.backends.memory import drop_results
from umbel.brokers.memory_store import drop_store
from umbel.current import default_app, forget_app, set_default_app

_OWN = "memory://test-"
_numbers = itertools.count(1)


def TestApp(
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    enable_logging: bool = False,
    set_as_current: bool = False,
    log: Any = None,
    backend: str | None = None,
    broker: str | None = None,
    **kwargs: Any,
) -> Umbel:
    """An application for tests, as Celery's ``TestApp``, with a ``memory://`` of its own unless that is configured.

    It never sets up logging: ``enable_logging`` and ``log`` have no effect.
    """
    url = f"{_OWN}{os.getpid()}-{next(_numbers)}"
    given = {"broker_url": url, "result_backend": url, **kwargs.pop("changes", {}), **(config or {})}
    main = kwargs.pop("main", None) or name or "umbel.tests"
    return _application_class()(
        main, changes=given, broker=broker, backend=backend, set_as_current=set_as_current, **kwargs
    )


def _application_class() -> type[Umbel]:
    """Celery's where that name means Umbel."""
    found = getattr(sys.modules.get("celery"), "Celery", None)
    return found if isinstance(found, type) and issubclass(found, Umbel) else Umbel


TestApp.__test__ = False  # pyright: ignore[reportFunctionMemberAccess] - nothing for pytest to collect


@contextmanager
def app_for_tests(
    config: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    *,
    name: str = "umbel.tests",
    trap: bool = False,
) -> Generator[Umbel]:
    """An application that is the current one meanwhile, and is closed in the end.

    ``config``: settings, before which the defaults of tests stand: ``memory://`` under a name of its own for broker and
    results. ``parameters``: of ``Umbel``. ``trap``: whoever asks for the current application gets an error instead.
    """
    given: dict[str, Any] = {**(parameters or {}), "set_as_current": False}
    app = TestApp(name, config, **given)
    with setup_default_app(app, trap):
        try:
            yield app
        finally:
            _close(app)


@contextmanager
def current(app: Umbel) -> Generator[None]:
    """Make ``app`` the current application for a while."""
    before = default_app()
    set_default_app(app)
    try:
        yield
    finally:
        if before is not None:
            set_default_app(before)
        else:
            forget_app(app)


@contextmanager
def set_trap(app: Umbel) -> Generator[None]:
    """Have whoever asks for the current application get an error instead."""
    with current(cast("Umbel", Trap())):
        yield


@contextmanager
def setup_default_app(app: Umbel, use_trap: bool = False) -> Generator[None]:
    """Make ``app`` the current application for a while, or with ``use_trap`` nobody."""
    with set_trap(app) if use_trap else current(app):
        yield


class Trap:
    """Stands for the current application where a test must not depend on it."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError("the test depends on the current application; ask for the fixture depends_on_current_app")


def _close(app: Umbel) -> None:
    urls: list[Any] = [app.conf.broker_url, app.conf.result_backend]
    app.close()
    for url in urls:
        if isinstance(url, str) and url.startswith(_OWN):
            drop_store(url.removeprefix("memory://"))
            drop_results(url.removeprefix("memory://"))
