"""The fixtures for pytest under Celery's names, and the marker ``celery``.

``pytest_plugins = ("umbel.testing.celery_fixtures",)`` in ``conftest.py``, or ``celery.contrib.pytest`` where Umbel
stands for Celery. Their meaning is Celery's: see its page on testing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.testing.threaded import WorkerInThread


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", "celery(**overrides): settings of the application that celery_app is")


@pytest.fixture(scope="session")
def use_celery_app_trap() -> bool:
    """To override: tests must not use the current application, unless they ask for ``depends_on_current_app``."""
    return False


@pytest.fixture(scope="session")
def celery_config() -> Mapping[str, Any]:
    """To override: settings of the applications."""
    return {}


@pytest.fixture(scope="session")
def celery_parameters() -> Mapping[str, Any]:
    """To override: arguments of the application's class."""
    return {}


@pytest.fixture(scope="session")
def celery_worker_parameters() -> Mapping[str, Any]:
    """To override: further arguments of ``start_worker``."""
    return {}


@pytest.fixture(scope="session")
def celery_worker_pool() -> str:
    """To override: the pool of the workers."""
    return "solo"


@pytest.fixture(scope="session")
def celery_enable_logging() -> bool:
    """To override: whether workers log from INFO on."""
    return False


@pytest.fixture(scope="session")
def celery_includes() -> Sequence[str]:
    """To override: modules to import before a worker starts."""
    return ()


@pytest.fixture(scope="session")
def celery_class_tasks() -> Sequence[Any]:
    """To override: tasks written as classes, which the session's application gets."""
    return []


@pytest.fixture
def celery_app(
    request: pytest.FixtureRequest,
    celery_config: Mapping[str, Any],
    celery_parameters: Mapping[str, Any],
    use_celery_app_trap: bool,
) -> Iterator[Umbel]:
    """An application for one test; settings of its marker ``celery`` go before those of ``celery_config``."""
    from umbel.testing.apps import app_for_tests

    marker = request.node.get_closest_marker("celery")
    config: dict[str, Any] = {**celery_config, **(marker.kwargs if marker else {})}
    with app_for_tests(config, celery_parameters, name="celery.tests", trap=use_celery_app_trap) as app:
        yield app


@pytest.fixture(scope="session")
def celery_session_app(
    celery_config: Mapping[str, Any],
    celery_parameters: Mapping[str, Any],
    use_celery_app_trap: bool,
) -> Iterator[Umbel]:
    """An application for the whole session."""
    from umbel.testing.apps import app_for_tests

    with app_for_tests(celery_config, celery_parameters, name="celery.tests", trap=use_celery_app_trap) as app:
        yield app


@pytest.fixture
def depends_on_current_app(celery_app: Umbel) -> None:
    """Makes ``celery_app`` the current application also where ``use_celery_app_trap`` is on."""
    celery_app.set_current()


@pytest.fixture
def celery_worker(request: pytest.FixtureRequest, celery_app: Umbel) -> Iterator[WorkerInThread]:
    """A worker of ``celery_app`` in a thread, for one test."""
    from umbel.testing.threaded import worker_of_fixture

    with worker_of_fixture(request, "celery", celery_app) as worker:
        yield worker


@pytest.fixture(scope="session")
def celery_session_worker(
    request: pytest.FixtureRequest, celery_session_app: Umbel, celery_class_tasks: Sequence[Any]
) -> Iterator[WorkerInThread]:
    """A worker of ``celery_session_app`` in a thread, for the whole session."""
    for task in celery_class_tasks:
        celery_session_app.register_task(task)
    from umbel.testing.threaded import worker_of_fixture

    with worker_of_fixture(request, "celery", celery_session_app) as worker:
        yield worker
