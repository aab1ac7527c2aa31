"""The plugin for pytest: fixtures and the marker ``umbel``. pytest finds it by itself once Umbel is installed.

Nothing of Umbel is imported before a fixture is used. Override a fixture that is described as one to override in your
own ``conftest.py``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.testing.in_process import InProcessWorker
    from umbel.testing.threaded import WorkerInThread


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "umbel(**settings): settings of the application that umbel_app is")


@pytest.fixture(scope="session")
def umbel_config() -> Mapping[str, Any]:
    """To override: settings of the applications."""
    return {}


@pytest.fixture(scope="session")
def umbel_parameters() -> Mapping[str, Any]:
    """To override: arguments of ``Umbel(…)``."""
    return {}


@pytest.fixture(scope="session")
def umbel_includes() -> Sequence[str]:
    """To override: modules with tasks, imported before a worker starts."""
    return ()


@pytest.fixture(scope="session")
def umbel_worker_pool() -> str:
    """To override: the pool of the workers."""
    return "solo"


@pytest.fixture(scope="session")
def umbel_worker_parameters() -> Mapping[str, Any]:
    """To override: further arguments of ``start_worker``, such as ``queues``, ``concurrency``, ``shutdown_timeout``."""
    return {}


@pytest.fixture(scope="session")
def umbel_enable_logging() -> bool:
    """To override: whether workers log from INFO on; otherwise as the test process logs."""
    return False


@pytest.fixture
def umbel_app(
    request: pytest.FixtureRequest, umbel_config: Mapping[str, Any], umbel_parameters: Mapping[str, Any]
) -> Iterator[Umbel]:
    """An application for one test, the current one meanwhile; with a ``memory://`` of its own unless configured.

    Settings: ``umbel_config``, and over them those of the markers ``@pytest.mark.umbel(setting=value)``.
    """
    from umbel.testing.apps import app_for_tests

    marked: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("umbel"))):
        marked.update(marker.kwargs)
    with app_for_tests({**umbel_config, **marked}, umbel_parameters) as app:
        yield app


@pytest.fixture(scope="session")
def umbel_session_app(umbel_config: Mapping[str, Any], umbel_parameters: Mapping[str, Any]) -> Iterator[Umbel]:
    """An application for the whole session."""
    from umbel.testing.apps import app_for_tests

    with app_for_tests(umbel_config, umbel_parameters) as app:
        yield app


@pytest.fixture
def umbel_worker(request: pytest.FixtureRequest, umbel_app: Umbel) -> Iterator[WorkerInThread]:
    """A worker of ``umbel_app`` in a thread, for one test. ``reload()`` takes up tasks that the test defines."""
    from umbel.testing.threaded import worker_of_fixture

    with worker_of_fixture(request, "umbel", umbel_app) as worker:
        yield worker


@pytest.fixture(scope="session")
def umbel_session_worker(request: pytest.FixtureRequest, umbel_session_app: Umbel) -> Iterator[WorkerInThread]:
    """A worker of ``umbel_session_app`` in a thread, for the whole session."""
    from umbel.testing.threaded import worker_of_fixture

    with worker_of_fixture(request, "umbel", umbel_session_app) as worker:
        yield worker


@pytest.fixture
def umbel_in_process_worker(umbel_app: Umbel, umbel_includes: Sequence[str]) -> Iterator[InProcessWorker]:
    """A deterministic worker of ``umbel_app`` in the thread of the test, with a virtual clock."""
    from umbel.testing.in_process import InProcessWorker

    for module in umbel_includes:
        importlib.import_module(module)
    with InProcessWorker(umbel_app) as worker:
        yield worker
