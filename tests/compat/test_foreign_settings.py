"""Settings of other packages in `app.conf`: accepted where they are declared, and all of them for Celery projects."""

from __future__ import annotations

import copy
import logging
import pickle
import types

import pytest

from umbel import Umbel
from umbel.compat.celery.app.base import Celery
from umbel.config import Settings
from umbel.errors import ConfigurationError


def settings(*foreign: str, **values: object) -> Settings:
    return Settings(values, environ={}, foreign=foreign)


def test_undeclared_ones_are_errors() -> None:
    with pytest.raises(ConfigurationError, match="unknown setting ONCE"):
        settings("redbeat_*", ONCE={})
    with pytest.raises(ConfigurationError, match="unknown setting redbeat_url"):
        settings("ONCE", redbeat_url="")
    with pytest.raises(AttributeError):
        _ = settings("ONCE").ONCE  # type: ignore[attr-defined]


def test_declared_ones_are_kept_as_they_are() -> None:
    conf = settings("ONCE", "redbeat_*", ONCE={"backend": "b"}, redbeat_redis_url="redis://", task_default_queue="q")
    assert conf.ONCE == conf["ONCE"] == conf.get("ONCE") == {"backend": "b"}
    assert conf.redbeat_redis_url == conf["REDBEAT_REDIS_URL"] == conf.REDBEAT_REDIS_URL == "redis://"
    assert "ONCE" in conf and "redbeat_lock_key" not in conf and conf.get("redbeat_lock_key", 1) == 1
    assert "ONCE" not in set(conf) and conf.changed() == {"task_default_queue": "q"}
    assert "test_foreign_settings.py" in conf.origin("ONCE")


def test_they_can_be_declared_later_assigned_and_reset() -> None:
    conf = settings()
    conf.accept_foreign("ONCE")
    assert conf.task_default_queue == "celery"
    conf.ONCE = 1
    assert conf.ONCE == 1
    conf.update(ONCE=2)
    assert conf.ONCE == 2
    conf.reset("ONCE")
    assert not hasattr(conf, "ONCE")


def test_names_of_methods_stay_methods() -> None:
    conf = settings("*", load=1, update=2)
    conf.update(items=3)
    assert callable(conf.load) and callable(conf.update) and conf["load"] == 1 and conf["items"] == 3


def test_they_are_copied_and_pickled() -> None:
    conf = settings("ONCE", ONCE=1)
    for again in (pickle.loads(pickle.dumps(conf)), copy.copy(conf)):
        assert again.ONCE == 1
        again.update(ONCE=2)
        assert again.ONCE == 2 and conf.ONCE == 1


def test_of_modules_and_django() -> None:
    module = types.ModuleType("config")
    module.__dict__.update(ONCE={"a": 1}, redbeat_url="r", os=types, helper=len, CELERY_ONCE="n", CELERY_TIMEZONE="UTC")
    conf = settings("*")
    conf.from_object(module)
    assert conf.ONCE == {"a": 1} and conf.redbeat_url == "r" and not hasattr(conf, "helper") and not hasattr(conf, "os")
    django = settings("*")
    django.from_object(module, namespace="CELERY")
    assert django.ONCE == "n" and django.timezone == "UTC" and not hasattr(django, "redbeat_url")


def test_a_celery_application_accepts_all_and_tells_of_what_looks_misspelt(caplog: pytest.LogCaptureFixture) -> None:
    app = Celery("proj", broker="memory://", set_as_current=False, changes={"ONCE": 1})
    app.conf.update(redbeat_key_prefix="x")
    with caplog.at_level(logging.WARNING, "umbel.config"):
        app.conf.task_default_qeue = "mine"
    assert app.conf.ONCE == 1 and app.conf.redbeat_key_prefix == "x" and app.conf.task_default_qeue == "mine"
    assert [record.getMessage() for record in caplog.records if "task_default_queue" in record.getMessage()]
    assert "redbeat" not in caplog.text
    with pytest.raises(ConfigurationError, match="must be bool"):
        app.conf.task_acks_late = "sometimes"


def test_an_umbel_application_accepts_what_it_names() -> None:
    app = Umbel("proj", broker="memory://", set_as_current=False, foreign_settings=["ONCE"], ONCE=1)
    assert app.conf.ONCE == 1
    with pytest.raises(ConfigurationError):
        app.conf.CELERY_ONCE = 2
