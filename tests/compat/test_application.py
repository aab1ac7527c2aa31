"""`Celery(…)`: Celery's arguments, and Umbel's safe defaults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from umbel.codecs.exceptions import decode_exception, encode_exception
from umbel.compat.celery import exceptions
from umbel.compat.celery.app.base import Celery
from umbel.current import default_app, set_default_app
from umbel.errors import ConfigurationError
from umbel.registry import TaskRegistry
from umbel.task import Task


@pytest.fixture(autouse=True)
def nobody_is_current() -> Iterator[None]:
    before = default_app()
    yield
    if before is not None:
        set_default_app(before)


def test_arguments_of_celery() -> None:
    app = Celery("proj", None, "memory://", broker="memory://", include=["json"], changes={"timezone": "Europe/Paris"})
    assert app.main == "proj" and app.conf.result_backend == "memory://" and app.conf.include == ["json"]
    assert app.conf.timezone == "Europe/Paris" and default_app() is app


def test_defaults() -> None:
    app = Celery("proj", set_as_current=False)
    conf = app.conf
    assert conf.broker_url == "amqp://guest:guest@localhost:5672//" and conf.mixed_fleet
    assert conf.task_acks_late is True and conf.task_reject_on_worker_lost is True
    app.conf.task_acks_late = False
    assert conf.task_acks_late is False


def test_configuration_goes_before_celerys_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://somewhere")
    assert Celery("proj", set_as_current=False).conf.broker_url == "redis://somewhere"
    assert Celery("proj", set_as_current=False, broker="memory://").conf.broker_url == "memory://"


def test_config_source_with_namespace() -> None:
    class Config:
        CELERY_TASK_DEFAULT_QUEUE = "mine"
        OTHER = 1

    app = Celery("proj", config_source=Config, namespace="CELERY", set_as_current=False)
    assert app.conf.task_default_queue == "mine" and not hasattr(app.conf, "OTHER")


def test_the_default_loader_reads_celeryconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_celery_configuration.py").write_text("broker_url = 'memory://'\ntask_default_queue = 'q'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("CELERY_CONFIG_MODULE", "some_celery_configuration")
    assert Celery(loader="default", set_as_current=False).conf.task_default_queue == "q"
    assert Celery(loader="app", set_as_current=False).conf.task_default_queue == "celery"
    monkeypatch.delenv("CELERY_CONFIG_MODULE")
    assert Celery(loader="default", set_as_current=False).conf.task_default_queue == "celery"


def test_fixups_are_called_with_the_application() -> None:
    seen: list[object] = []
    app = Celery("proj", fixups=[seen.append], set_as_current=False)
    assert seen == [app]


@pytest.mark.parametrize("part", ["amqp", "events", "log", "control", "loader", "backend_cls"])
def test_parts_of_ones_own_are_refused(part: str) -> None:
    with pytest.raises(ConfigurationError, match=part):
        Celery("proj", set_as_current=False, **{part: "proj.own:Thing"})


def test_subclasses_have_on_init() -> None:
    class Own(Celery):
        def on_init(self) -> None:
            self.seen = self.main

    assert Own("proj", set_as_current=False).seen == "proj"


@pytest.mark.parametrize("name", [name for name in exceptions.__all__ if name not in ("reraise",)])
def test_exceptions_have_the_modules_that_clients_of_celery_know(name: str) -> None:
    cls = getattr(exceptions, name)
    if not issubclass(cls, exceptions.CeleryError):
        return
    encoded = encode_exception(cls("why"), "json")
    assert encoded["exc_module"] in ("celery.exceptions", "billiard.exceptions", "kombu.exceptions")
    if cls is not exceptions.SecurityError:  # known only where it was imported as celery.exceptions
        assert type(decode_exception(encoded)) is cls


class OwnTask(Task):  # type: ignore[type-arg]
    mark = "own"


class OwnRegistry(TaskRegistry):
    pass


def test_subclasses_name_their_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    class Own(Celery):
        task_cls = f"{__name__}:OwnTask"
        registry_cls = OwnRegistry
        loader_cls = "celery.loaders.default:Loader"
        builtin_fixups = {seen.append}

    (tmp_path / "configuration_of_a_subclass.py").write_text("task_default_queue = 'q'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("CELERY_CONFIG_MODULE", "configuration_of_a_subclass")
    app = Own("proj", set_as_current=False)
    assert app.Task.mark == "own" and type(app.tasks) is OwnRegistry and "celery.map" in app.tasks
    assert app.conf.task_default_queue == "q" and seen == [app]
    assert Own("proj", task_cls=Task, loader="app", fixups=[], set_as_current=False).Task is Task and seen == [app]


def test_a_subclass_cannot_replace_the_log() -> None:
    class Own(Celery):
        log_cls = "proj.own:Logging"

    with pytest.raises(ConfigurationError, match="log"):
        Own("proj", set_as_current=False)


def test_settings_from_a_command_line() -> None:
    app = Celery("proj", set_as_current=False)
    app.config_from_cmdline(["worker.concurrency=(int)10", ".default_queue=mine"], namespace="task")
    assert app.conf.worker_concurrency == 10 and app.conf.task_default_queue == "mine"
