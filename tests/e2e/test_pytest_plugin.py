"""The plugin for pytest in projects of their own: Umbel's fixtures, and Celery's names."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT / "src"))


def run(pytester: pytest.Pytester, *arguments: str, plugin: str = "umbel.testing.plugin") -> pytest.RunResult:
    """pytest with the plugin, in whatever way it is installed."""
    options = ("-p", "no:umbel", "-p", plugin, "-p", "no:cacheprovider", "--strict-markers", "-W", "error")
    return pytester.runpytest_subprocess(*options, *arguments)


def test_the_entry_point() -> None:
    points = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert points["pytest11"] == {"umbel": "umbel.testing.plugin"}


def test_fixtures(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        tasks_of_project="""
            from umbel import shared_task

            @shared_task
            def shared(x):
                return x + 1
        """,
        conftest="""
            import pytest

            @pytest.fixture(scope="session")
            def umbel_config():
                return {"result_extended": True, "timezone": "Europe/Berlin"}

            @pytest.fixture(scope="session")
            def umbel_parameters():
                return {"strict_typing": False}

            @pytest.fixture(scope="session")
            def umbel_includes():
                return ["tasks_of_project"]

            @pytest.fixture(scope="session")
            def umbel_worker_parameters():
                return {"shutdown_timeout": 5.0}
        """,
        test_it="""
            import os
            import pytest
            from umbel import current_app
            from umbel.testing import assert_enqueued

            seen = []

            def test_app(umbel_app):
                seen.append(umbel_app)
                assert umbel_app.conf.result_extended and not umbel_app.strict_typing
                assert current_app == umbel_app
                umbel_app.send_task("left.over")

            @pytest.mark.umbel(timezone="Asia/Tokyo", task_always_eager=True)
            class TestMarked:
                @pytest.mark.umbel(timezone="UTC")
                def test_settings(self, umbel_app):
                    conf = umbel_app.conf
                    assert (conf.timezone, conf.task_always_eager, conf.result_extended) == ("UTC", True, True)

            def test_worker(umbel_app, umbel_worker):
                from tasks_of_project import shared
                assert umbel_app is not seen[0] and umbel_app.broker.size("celery").ready == 0
                assert shared.delay(1).get(timeout=10) == 2

            def test_session(umbel_session_worker, umbel_session_app):
                task = umbel_session_app.make_task(os.getpid, name="pid")
                umbel_session_worker.reload()
                assert task.delay().get(timeout=10) == os.getpid()

            def test_session_again(umbel_session_worker, umbel_session_app):
                assert umbel_session_app.tasks["pid"].delay().get(timeout=10) == os.getpid()

            def test_in_process(umbel_app, umbel_in_process_worker):
                from tasks_of_project import shared
                result = shared.apply_async((1,), countdown=3600)
                assert_enqueued(shared, args=(1,))
                umbel_in_process_worker.advance(3600)
                assert result.get(timeout=1) == 2
        """,
    )
    run(pytester).assert_outcomes(passed=6)


def test_processes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        conftest="""
            import pytest

            @pytest.fixture(scope="session")
            def umbel_worker_pool():
                return "prefork"
        """,
        test_it="""
            import os

            def test_it(umbel_app, umbel_worker):
                @umbel_app.task
                def where():
                    print("said by a task")
                    return os.getpid()

                umbel_worker.reload()
                assert where.delay().get(timeout=10) != os.getpid()
        """,
    )
    run(pytester).assert_outcomes(passed=1)


def test_nothing_is_imported_before_a_fixture_is_used(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it():
            found = {name for name in sys.modules if name.split(".")[0] == "umbel"}
            assert found == {"umbel", "umbel.testing", "umbel.testing.plugin"}
            assert "msgspec" not in sys.modules
        """
    )
    run(pytester).assert_outcomes(passed=1)


def test_celery_s_names(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        conftest="""
            import pytest

            @pytest.fixture(scope="session")
            def celery_config():
                return {"broker_url": "memory://", "result_backend": "cache+memory://"}

            @pytest.fixture(scope="session")
            def celery_worker_parameters():
                return {"queues": ("celery", "high-prio"), "exclude_queues": ("low",)}

            @pytest.fixture(scope="session")
            def celery_class_tasks():
                from umbel import Task

                class Class(Task):
                    name = "class.task"

                    def run(self, x):
                        return x

                return [Class]

            @pytest.fixture(scope="session")
            def use_celery_app_trap():
                return True
        """,
        test_it="""
            import pytest
            from umbel import current_app

            def test_create_task(celery_app, celery_worker):
                @celery_app.task
                def mul(x, y):
                    return x * y

                celery_worker.reload()
                assert mul.delay(4, 4).get(timeout=10) == 16
                assert mul.apply_async((2, 2), queue="high-prio").get(timeout=10) == 4

            @pytest.mark.celery(result_backend="memory://other")
            def test_marker(celery_app):
                assert celery_app.conf.result_backend == "memory://other"
                with pytest.raises(RuntimeError, match="depends on the current application"):
                    current_app.conf

            def test_current(celery_app, depends_on_current_app):
                assert current_app == celery_app

            @pytest.mark.usefixtures("celery_session_worker")
            class TestSession:
                def test_class_task(self, celery_session_app):
                    assert celery_session_app.tasks["class.task"].delay(3).get(timeout=10) == 3
        """,
    )
    run(pytester, plugin="umbel.testing.celery_fixtures").assert_outcomes(passed=4)


def test_the_fixtures_are_those_of_the_documentation() -> None:
    from umbel.testing import celery_fixtures

    named = """celery_app celery_worker celery_session_app celery_session_worker celery_config celery_parameters
        celery_worker_parameters celery_worker_pool celery_enable_logging celery_includes celery_class_tasks
        use_celery_app_trap depends_on_current_app"""
    assert all(hasattr(celery_fixtures, name) for name in named.split())
