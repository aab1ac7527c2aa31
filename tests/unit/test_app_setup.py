"""Applications: settings, drivers, finalizing, discovery, the command line's `-A`, start-up cost."""

from __future__ import annotations

import gc
import importlib
import json
import os
import pathlib
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import umbel
from umbel import Umbel, current_app
from umbel.app import live_apps
from umbel.current import get_current_app
from umbel.errors import ConfigurationError, NoBackend, NotRegistered
from umbel.loading import find_app
from umbel.opening import backend_url, broker_url

ROOT = pathlib.Path(__file__).parents[2]


def make(**settings: Any) -> Umbel:
    return Umbel("t", set_as_current=False, **settings)


# -- settings --------------------------------------------------------------------------------------


def test_settings_by_keyword_changes_and_source() -> None:
    app = make(
        broker="memory://k", task_default_queue="q", changes={"result_expires": 5}, config_source={"timezone": "UTC"}
    )
    assert (app.conf.broker_url, app.conf.task_default_queue, app.conf.result_expires) == ("memory://k", "q", 5)
    assert app.conf.timezone == "UTC"


def test_misspelt_settings_are_refused_with_a_hint() -> None:
    with pytest.raises(ConfigurationError, match="task_default_queue"):
        make(task_defualt_queue="q")


def test_settings_from_object_and_variable(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"conf_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text("CELERY_TASK_DEFAULT_QUEUE = 'from-module'\ntask_ignore_result = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    app = make()
    app.config_from_object(name)
    assert (app.conf.task_default_queue, app.conf.task_ignore_result) == ("from-module", True)
    monkeypatch.setenv("MY_CONFIG", name)
    other = make()
    assert other.config_from_envvar("MY_CONFIG", force=True)
    assert other.conf.task_ignore_result is True
    assert not other.config_from_envvar("NOT_SET_AT_ALL", silent=True)
    with pytest.raises(ConfigurationError, match="NOT_SET_AT_ALL"):
        other.config_from_envvar("NOT_SET_AT_ALL")


# -- drivers ---------------------------------------------------------------------------------------


def test_nothing_configured_is_one_embedded_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UMBEL_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    app = make()
    expected = f"sqlite:///{tmp_path / '.umbel' / 'umbel.db'}"
    assert broker_url(app.conf) == backend_url(app.conf) == expected
    assert (tmp_path / ".umbel").is_dir()
    monkeypatch.setenv("UMBEL_HOME", str(tmp_path / "home"))
    app = make()
    assert broker_url(app.conf) == f"sqlite:///{tmp_path / 'home' / 'umbel.db'}"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UMBEL_HOME", str(tmp_path / "file" / "x"))
    with pytest.raises(ConfigurationError, match="UMBEL_HOME"):
        broker_url(make().conf)


def test_a_broker_without_backend_stores_nothing() -> None:
    app = make(broker="memory://x")
    assert app.backend.url == "disabled://"
    with pytest.raises(NoBackend):
        app.AsyncResult("x").get()


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({"broker_url": ["amqp://a", "amqp://b"]}, "amqp://a;amqp://b"),
        ({"broker_write_url": "redis://w", "broker_url": "redis://r"}, "redis://w"),
        ({"broker_host": "h", "broker_user": "u@x", "broker_password": "p/w", "broker_port": 5, "broker_vhost": "/v"},
         "amqp://u%40x:p%2Fw@h:5/%2Fv"),
        ({"broker_transport": "redis", "broker_vhost": "3"}, "redis://localhost/3"),
    ],
)  # fmt: skip
def test_broker_addresses(settings: dict[str, Any], url: str) -> None:
    assert broker_url(make(**settings).conf) == url


def test_named_backends_need_their_address() -> None:
    assert backend_url(make(result_backend="database", database_url="sqlite:///x").conf) == "sqlite:///x"
    with pytest.raises(ConfigurationError, match="cache"):
        backend_url(make(result_backend="cache").conf)


def test_options_reach_the_drivers() -> None:
    app = make(
        broker="memory://o", backend="memory://o", publish_timeout=2, broker_connection_timeout=9, mixed_fleet=True,
        key_prefix="p", result_expires=None, result_extended=True, result_serializer="pickle", accept_content=["json"],
        result_accept_content=["pickle"], result_failure_expires=7, broker_transport_options={"a": 1},
    )  # fmt: skip
    broker, backend = app.broker.options, app.backend.options
    assert (broker.publish_timeout, broker.connect_timeout, broker.mixed_fleet, broker.key_prefix) == (2, 2, True, "p")
    assert broker.transport == {"a": 1} and broker.ssl is None
    assert (backend.expires, backend.failure_expires, backend.extended, backend.serializer) == (0, 7, True, "pickle")
    assert backend.accept == {"application/x-python-serialize"}
    assert app.broker is app.broker


def test_closed_applications_open_again() -> None:
    app = make(broker=f"memory://{uuid.uuid4()}")
    with app:
        app.send_task("x")
        before = app.broker
    app.send_task("x")
    assert app.broker is not before and len(app.broker.peek("celery")) == 2


# -- tasks -----------------------------------------------------------------------------------------


def test_tasks_are_finalized_on_first_use_by_any_thread() -> None:
    app = make(broker="memory://f")
    bound: list[str] = []

    class Noted(umbel.Task[..., Any]):
        def on_bound(self, app: Umbel) -> None:
            bound.append(self.name)

    for name in ("a", "b"):
        app.make_task(lambda: None, name=name, base=Noted)
    assert not app.finalized and bound == []
    threads = [threading.Thread(target=lambda: app.tasks["a"]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert app.finalized and sorted(bound) == ["a", "b"]


def test_own_base_class_by_name() -> None:
    app = make(broker="memory://b", task_cls=f"{__name__}:OwnTask")
    sys.modules.setdefault(__name__, sys.modules[OwnTask.__module__])
    task = app.make_task(lambda: None, name="own")
    assert task.mark == "own" and type(task).__name__ == "OwnTask"


class OwnTask(umbel.Task[..., Any]):
    mark = "own"


def test_current_application() -> None:
    first = Umbel("first", broker="memory://1")
    assert get_current_app() is first and current_app.main == "first" and current_app == first
    second = Umbel("second", broker="memory://2")
    assert current_app.main == "second"
    Umbel("third", set_as_current=False)
    assert current_app.main == "second"
    first.set_default()
    assert current_app.main == "first"
    second.close()
    first.close()


def test_applications_are_not_kept_alive() -> None:
    app = make(broker="memory://gone")
    app.make_task(lambda: None, name="x").delay()
    marked = id(app)
    assert marked in {id(each) for each in live_apps()}
    del app
    gc.collect()
    assert marked not in {id(each) for each in live_apps()}


def test_public_names_exist() -> None:
    for name in umbel.__all__:
        assert getattr(umbel, name) is not None
    assert set(umbel.__all__) <= set(dir(umbel))
    with pytest.raises(AttributeError, match="Umbell"):
        _ = umbel.Umbell  # type: ignore[attr-defined]


# -- discovery -------------------------------------------------------------------------------------

Write = Callable[[str, str], None]


@pytest.fixture
def project(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules into a directory that is the working directory and on the path; forgets them after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = set(sys.modules)

    def write(path: str, source: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source))
        importlib.invalidate_caches()

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_modules_are_imported_for_workers(project: Write) -> None:
    for name in ("pa", "pb", "pc"):
        project(f"{name}/__init__.py", "")
    project("pa/tasks.py", "from umbel import shared_task\n@shared_task(name='pa.work')\ndef work(): return 1\n")
    project("pb/jobs.py", "value = 1\n")
    project("single.py", "value = 2\n")
    app = make(broker="memory://d", imports=["single"], include=["pb.jobs"])
    app.autodiscover_tasks(["pa", "pb", "pc"])
    app.autodiscover_tasks(lambda: ["pb"], related_name="jobs")
    assert "pa.tasks" not in sys.modules
    assert app.import_task_modules() == ["single", "pb.jobs", "pa.tasks"]
    assert "pa.work" in app.tasks and "single" in sys.modules


def test_errors_inside_task_modules_are_not_hidden(project: Write) -> None:
    project("bad/__init__.py", "")
    project("bad/tasks.py", "import nothing_of_this_name\n")
    with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):
        make().autodiscover_tasks(["bad"], force=True)


MODULE = "from umbel import Umbel\n{} = Umbel('found', set_as_current=False)\n"


@pytest.mark.parametrize(
    ("files", "spec"),
    [
        ({"m1.py": MODULE.format("app")}, "m1"),
        ({"m2.py": MODULE.format("celery")}, "m2"),
        ({"m3.py": MODULE.format("anything")}, "m3"),
        ({"m4.py": MODULE.format("anything")}, "m4:anything"),
        ({"m5.py": MODULE.format("anything")}, "m5.anything"),
        ({"p1/__init__.py": "", "p1/celery.py": MODULE.format("app")}, "p1"),
        ({"p2/__init__.py": "", "p2/umbel.py": MODULE.format("mine")}, "p2"),
        ({"p3/__init__.py": "from .celery import app as celery_app", "p3/celery.py": MODULE.format("app")}, "p3"),
        ({"p4/__init__.py": "", "p4/tasks.py": MODULE.format("app")}, "p4.tasks:app"),
        ({"p5/__init__.py": "", "p5/celery.py": MODULE.format("app")}, "p5.celery"),
    ],
)
def test_applications_are_found(project: Write, files: dict[str, str], spec: str) -> None:
    for path, source in files.items():
        project(path, source)
    found = find_app(spec)
    assert isinstance(found, Umbel) and found.main == "found"


@pytest.mark.parametrize(
    ("source", "spec", "error"),
    [
        ("", "no_such_module", "no module no_such_module"),
        ("", "e1", "has no application"),
        ("value = 5", "e1:value", "int, not an Umbel application"),
        ("", "e1:value", "has no 'value'"),
        ("", "e1.value", "has no 'value'"),
        ("", "e1.py", "is a file"),
        (MODULE.format("a") + MODULE.format("b"), "e1", "several applications"),
    ],
)
def test_applications_that_are_not_there(project: Write, source: str, spec: str, error: str) -> None:
    project("e1.py", source)
    with pytest.raises(ConfigurationError, match=error):
        find_app(spec)


def test_errors_inside_the_module_are_passed_on(project: Write) -> None:
    project("e2.py", "import nothing_of_this_name\n")
    with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):
        find_app("e2")


# -- processes -------------------------------------------------------------------------------------


def test_a_child_does_not_use_the_parents_connections() -> None:
    app = make(broker="memory://parent", backend="memory://parent")
    parents_address = app.reply_address()
    app.send_task("x")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            app.after_fork()
            answer = {"address": app.reply_address(), "size": len(app.broker.peek("celery"))}
            os.write(writing, json.dumps(answer).encode())
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    answer = json.loads(os.read(reading, 1000))
    assert answer["address"] != parents_address and answer["size"] == 0
    assert len(app.broker.peek("celery")) == 1


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import umbel", ["umbel.app", "asyncio", "msgspec"]),
        (
            "from umbel import Umbel; Umbel('x')",
            ["sqlalchemy", "redis", "pika", "umbel.execution", "asyncio"],
        ),
    ],
)
def test_importing_loads_little(statement: str, forbidden: list[str]) -> None:
    code = f"import sys\n{statement}\nprint([name for name in {forbidden!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_registry_error_names_the_task() -> None:
    with pytest.raises(NotRegistered, match=r"proj\.nothing"):
        make(broker="memory://r").tasks["proj.nothing"]
