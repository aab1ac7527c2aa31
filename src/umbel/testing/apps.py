"""Applications for tests: each with a broker and a result store of its own in the memory of the process."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn, cast

from umbel.app import Umbel
from umbel.backends.memory import MemoryBackend, drop_results
from umbel.brokers.memory import MemoryBroker
from umbel.brokers.memory_store import drop_store
from umbel.current import default_app, forget_app, set_default_app

_numbers = itertools.count(1)


@contextmanager
def app_for_tests(
    config: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    *,
    name: str = "umbel.tests",
    trap: bool = False,
) -> Iterator[Umbel]:
    """An application that is the current one meanwhile, and is closed in the end.

    ``config``: settings, before which the defaults of tests stand: ``memory://`` under a name of its own for broker and
    results. ``parameters``: of ``Umbel``. ``trap``: whoever asks for the current application gets an error instead.
    """
    url = f"memory://test-{os.getpid()}-{next(_numbers)}"
    given = dict(parameters or {})
    app = Umbel(
        given.pop("main", name),
        changes={"broker_url": url, "result_backend": url, **given.pop("changes", {}), **(config or {})},
        **{**given, "set_as_current": False},
    )
    with current(cast("Umbel", Trap()) if trap else app):
        try:
            yield app
        finally:
            _close(app)


@contextmanager
def current(app: Umbel) -> Iterator[None]:
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


class Trap:
    """Stands for the current application where a test must not depend on it."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError("the test depends on the current application; ask for the fixture depends_on_current_app")


def _close(app: Umbel) -> None:
    broker, backend = app.broker, app.backend
    app.close()
    for driver in (broker, backend):
        if isinstance(driver, MemoryBroker | MemoryBackend) and driver.name.startswith("test-"):
            drop_store(driver.name)
            drop_results(driver.name)
