"""Settings: types, names, sources and their precedence, origins."""

import copy
import logging
import pickle
import sys
import threading
import types
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from umbel.config import DECLARED, DEFAULT, Settings, UnknownSetting
from umbel.errors import ConfigurationError


def settings(values: dict[str, Any] | None = None, **more: Any) -> Settings:
    return Settings({**(values or {}), **more}, environ={})


def from_environment(**variables: str) -> Settings:
    return Settings(environ=variables)


@pytest.fixture
def config_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a module and give its name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def write(text: str) -> str:
        name = f"umbeltestconfig{len(made)}"
        (tmp_path / f"{name}.py").write_text(text)
        made.append(name)
        return name

    yield write
    for name in made:
        sys.modules.pop(name, None)


# -- defaults ------------------------------------------------------------------------------------------


def test_defaults_are_safe_and_need_no_server():
    conf = settings()
    assert conf.task_acks_late is True
    assert conf.task_reject_on_worker_lost is True
    assert conf.broker_url is None
    assert conf.result_backend is None
    assert conf.broker_connection_retry_on_startup is True
    assert conf.publish_timeout == 10.0
    assert (conf.worker_lease, conf.worker_lease_renewal) == (5.0, 1.0)
    assert conf.message_max_bytes == 64 * 1024 * 1024
    assert conf.result_expires == 86400.0


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_every_default_fits_its_type(name: str):
    conf = settings()
    conf[name] = DECLARED[name].default
    assert conf[name] == DECLARED[name].default


def test_defaults_are_not_shared():
    one, other = settings(), settings()
    one.beat_schedule["x"] = {"task": "t"}
    assert other.beat_schedule == {}
    assert DECLARED["beat_schedule"].default == {}


# -- access --------------------------------------------------------------------------------------------


def test_mapping_access():
    conf = settings(task_serializer="yaml")
    assert conf["task_serializer"] == "yaml" == conf.get("task_serializer") == conf.get("CELERY_TASK_SERIALIZER")
    assert "task_serializer" in conf and "CELERY_TASK_SERIALIZER" in conf and "nonsense" not in conf
    assert list(conf) == list(DECLARED) and len(conf) == len(DECLARED)
    assert dict(conf)["task_serializer"] == "yaml"
    assert conf.get("nonsense", 5) == 5
    conf["task_serializer"] = "json"
    assert conf.task_serializer == "json"


def test_update_assigns_all_or_nothing():
    conf = settings()
    conf.update({"timezone": "Europe/Berlin"}, task_always_eager=True)
    assert conf.timezone == "Europe/Berlin" and conf.task_always_eager is True
    with pytest.raises(ConfigurationError):
        conf.update(timezone="UTC", task_always_eager="maybe")
    assert conf.timezone == "Europe/Berlin"


def test_assignment_by_old_name():
    conf = settings()
    conf.CELERY_ALWAYS_EAGER = True  # pyright: ignore
    assert conf.task_always_eager is True


def test_reset_gives_the_next_source_back():
    conf = from_environment(UMBEL_TIMEZONE="UTC")
    conf.timezone = "Asia/Tokyo"
    assert conf.timezone == "Asia/Tokyo"
    del conf.timezone
    assert conf.timezone == "UTC"
    assert conf.origin("timezone") == "environment UMBEL_TIMEZONE"


def test_changes_in_place_survive_a_new_source():
    conf = settings()
    conf.beat_schedule["x"] = {"task": "t"}
    conf.from_object({"timezone": "UTC"})
    assert conf.beat_schedule == {"x": {"task": "t"}}
    given: dict[str, Any] = {}
    conf.task_publish_retry_policy = given
    assert conf.task_publish_retry_policy is given


def test_loaded_values_are_plain_instance_attributes():
    conf = settings()
    assert "task_serializer" not in vars(conf)
    conf.load()
    assert set(DECLARED) <= set(vars(conf))
    assert Settings.__getattribute__ is object.__getattribute__  # so that reading one costs no call
    assert not hasattr(type(DECLARED["task_serializer"]), "__set__")


# -- unknown names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("task_serialiser", "task_serializer"),
        ("worker_concurency", "worker_concurrency"),
        ("CELERY_TASK_SERIALISER", "CELERY_TASK_SERIALIZER"),
        ("CELERYD_CONCURENCY", "CELERYD_CONCURRENCY"),
    ],
)
def test_pain_23_misspelt_setting_is_an_error(wrong: str, right: str):
    conf = settings()
    for attempt in (
        lambda: settings({wrong: 1}),
        lambda: conf.update({wrong: 1}),
        lambda: setattr(conf, wrong, 1),
        lambda: conf[wrong],
    ):
        with pytest.raises(ConfigurationError, match=rf"unknown setting {wrong} .*Did you mean {right}\?"):
            attempt()


def test_unknown_name_without_resemblance_points_to_the_list():
    with pytest.raises(ConfigurationError, match="umbel config"):
        settings(zzzz=1)


def test_unknown_item_is_what_users_of_mappings_expect():
    with pytest.raises(UnknownSetting) as caught:
        settings()["task_serialiser"]
    assert isinstance(caught.value, KeyError) and isinstance(caught.value, AttributeError)
    assert str(caught.value).startswith("unknown setting task_serialiser")
    assert not hasattr(settings(), "task_serialiser")


# -- types ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("publish_timeout", 3, 3.0),
        ("publish_timeout", timedelta(minutes=1), 60.0),
        ("result_expires", timedelta(days=2), 172800.0),
        ("result_expires", None, None),
        ("worker_concurrency", 4.0, 4),
        ("task_always_eager", 1, True),
        ("accept_content", ("json", "yaml"), ["json", "yaml"]),
        ("accept_content", {"yaml", "json"}, ["json", "yaml"]),
        ("imports", "proj.tasks", ["proj.tasks"]),
        ("broker_url", ["redis://a", "redis://b"], ["redis://a", "redis://b"]),
        ("broker_use_ssl", {"cert_reqs": 0}, {"cert_reqs": 0}),
        ("worker_state_db", Path("var") / "state", "var/state"),
        ("security_key_password", "geheim", b"geheim"),
        ("timezone", ZoneInfo("Europe/Berlin"), ZoneInfo("Europe/Berlin")),
        ("timezone", UTC, UTC),
        ("task_default_delivery_mode", "persistent", "persistent"),
        ("task_routes", {"a.*": {"queue": "q"}}, {"a.*": {"queue": "q"}}),
        ("broker_failover_strategy", sorted, sorted),
        ("worker_pool", dict, dict),
        ("worker_log_format_style", "json", "json"),
        ("task_protocol", 1, 1),
    ],
)
def test_values_of_the_program(name: str, value: Any, kept: Any):
    got = settings({name: value})[name]
    assert got == kept and type(got) is type(kept)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("worker_concurrency", "4", r"must be int \| None, not '4'"),
        ("worker_concurrency", True, r"must be int \| None, not True of type bool"),
        ("worker_concurrency", 4.5, r"not 4\.5 of type float"),
        ("worker_concurrency", 0, "must be at least 1, not 0"),
        ("task_always_eager", "yes", "must be bool, not 'yes'"),
        ("task_always_eager", 2, "must be bool"),
        ("publish_timeout", None, "must be float, not None"),
        ("publish_timeout", float("nan"), "must be float"),
        ("publish_timeout", 0, "at least 0.001"),
        ("accept_content", [1], r"must be list\[str\]"),
        ("beat_schedule", [("a", 1)], r"must be dict\[str, any\]"),
        ("beat_schedule", {1: {}}, r"must be dict\[str, any\]"),
        ("task_serializer", b"json", "must be str"),
        ("worker_log_format_style", "xml", r"must be 'text' \| 'json', not 'xml'"),
        ("task_protocol", 3, r"must be 1 \| 2"),
        ("broker_failover_strategy", 5, r"str \| function \| None"),
    ],
)
def test_wrong_type_names_setting_value_type_and_origin(name: str, value: Any, expected: str):
    with pytest.raises(ConfigurationError, match=expected) as caught:
        settings({name: value})
    assert str(caught.value).startswith(name)
    assert "test_config.py:" in str(caught.value)


def test_errors_do_not_show_secrets():
    with pytest.raises(ConfigurationError) as caught:
        settings(redis_password=b"hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "kept"),
    [
        ("task_always_eager", "true", True),
        ("task_always_eager", "1", True),
        ("task_always_eager", "Off", False),
        ("worker_concurrency", "8", 8),
        ("worker_concurrency", "none", None),
        ("publish_timeout", "2.5", 2.5),
        ("result_backend_max_retries", "inf", float("inf")),
        ("accept_content", "json, yaml", ["json", "yaml"]),
        ("accept_content", '["json"]', ["json"]),
        ("broker_url", "redis://h/0", "redis://h/0"),
        ("broker_url", "amqp://a,b", "amqp://a,b"),
        ("broker_url", '["redis://a", "redis://b"]', ["redis://a", "redis://b"]),
        ("broker_url", "", None),
        ("key_prefix", "none", "none"),
        ("broker_transport_options", '{"a": 1}', {"a": 1}),
        ("broker_use_ssl", "true", True),
        ("broker_use_ssl", '{"cert_reqs": 0}', {"cert_reqs": 0}),
        ("worker_uid", "1000", 1000),
        ("worker_uid", "www", "www"),
        ("task_routes", '{"a": "q"}', {"a": "q"}),
        ("task_routes", "proj.routes.Router", "proj.routes.Router"),
        ("task_protocol", "1", 1),
        ("task_default_rate_limit", "10/m", "10/m"),
    ],
)
def test_values_of_the_environment(name: str, text: str, kept: Any):
    got = from_environment(**{f"UMBEL_{name.upper()}": text})[name]
    assert got == kept and type(got) is type(kept)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("task_always_eager", "maybe"),
        ("task_always_eager", ""),
        ("worker_concurrency", "four"),
        ("broker_transport_options", "{"),
        ("broker_transport_options", "[1]"),
        ("accept_content", "[1]"),
        ("publish_timeout", "soon"),
        ("worker_log_format_style", "xml"),
    ],
)
def test_wrong_values_of_the_environment(name: str, text: str):
    variable = f"UMBEL_{name.upper()}"
    with pytest.raises(ConfigurationError, match=rf"{name} must be .*\(environment {variable}\)"):
        from_environment(**{variable: text}).load()


# -- sources -------------------------------------------------------------------------------------------


def test_precedence_and_origins(tmp_path: Path):
    project = tmp_path / "pyproject.toml"
    project.write_text(
        "[tool.umbel]\n" + "\n".join(f'worker_{n} = "project"' for n in ("logfile", "pidfile", "gid", "umask"))
    )
    conf = Settings(environ={"UMBEL_WORKER_GID": "environment", "UMBEL_WORKER_UMASK": "environment"}, pyproject=project)
    conf.add_defaults({"worker_uid": "application", "worker_logfile": "application"})
    conf.from_object({f"worker_{n}": "object" for n in ("pidfile", "gid", "umask")})
    conf.worker_umask = "assigned"
    found = {n: (conf[f"worker_{n}"], conf.origin(f"worker_{n}")) for n in ("uid", "logfile", "pidfile", "gid")}
    assert found["uid"][0] == "application" and found["uid"][1].startswith("application default, ")
    assert found["logfile"] == ("project", f"{project} [tool.umbel]")
    assert found["pidfile"] == ("object", "dict")
    assert found["gid"] == ("environment", "environment UMBEL_WORKER_GID")
    assert conf.worker_umask == "assigned" and "test_config.py:" in conf.origin("worker_umask")
    assert conf.origin("worker_executable") == DEFAULT
    assert set(conf.changed()) == {f"worker_{n}" for n in ("uid", "logfile", "pidfile", "gid", "umask")}


def test_all_errors_of_a_source_are_told_at_once():
    conf = from_environment(UMBEL_WORKER_CONCURRENCY="x", UMBEL_NONSENSE="1", UMBEL_TASK_ALWAYS_EAGER="x")
    with pytest.raises(ConfigurationError) as caught:
        conf.load()
    text = str(caught.value)
    assert "3 errors" in text
    assert all(part in text for part in ("worker_concurrency", "UMBEL_NONSENSE", "task_always_eager"))


def test_a_wrong_source_is_an_error_at_every_read():
    conf = from_environment(UMBEL_NONSENSE="1")
    for _ in range(2):
        with pytest.raises(ConfigurationError):
            _ = conf.task_serializer


def test_environment_of_the_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("UMBEL_KEY_PREFIX", "here:")
    assert Settings().key_prefix == "here:"


def test_environment_variables_of_celery():
    conf = from_environment(CELERY_BROKER_URL="redis://c/1", CELERY_RESULT_BACKEND="redis://c/2", CELERY_LOADER="x")
    assert (conf.broker_url, conf.result_backend) == ("redis://c/1", "redis://c/2")
    assert conf.origin("broker_url") == "environment CELERY_BROKER_URL"
    both = from_environment(CELERY_BROKER_URL="redis://c", UMBEL_BROKER_URL="redis://u")
    assert both.broker_url == "redis://u"


def test_misspelt_environment_variable():
    with pytest.raises(ConfigurationError, match=r"UMBEL_BROKER_ULR.*Did you mean UMBEL_BROKER_URL\?"):
        from_environment(UMBEL_BROKER_ULR="x").load()


def test_other_variables_of_umbel_are_no_settings():
    from_environment(UMBEL_TEST_REDIS="x", UMBEL_REQUIRE_SERVICES="1", UMBEL_APP="proj").load()


def test_nearest_pyproject_is_found_upward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[tool.umbel]\ntask_serializer = "outer"\n')
    (tmp_path / "a" / "pyproject.toml").write_text('[tool.umbel]\ntask_serializer = "yaml"\nimports = ["x"]\n')
    monkeypatch.chdir(below)
    conf = Settings(environ={}, pyproject=True)
    assert (conf.task_serializer, conf.imports) == ("yaml", ["x"])
    assert Settings(environ={}).task_serializer == "json"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('[tool.umbel]\ntask_serialiser = "x"\n', r"task_serialiser .*pyproject\.toml.*Did you mean"),
        ('[tool.umbel]\nworker_concurrency = "4"\n', r"worker_concurrency must be int .*pyproject\.toml"),
        ("[tool.umbel\n", r"pyproject\.toml is not valid TOML"),
        ("[tool]\numbel = 5\n", "must be a table"),
        (None, "cannot read"),
    ],
)
def test_wrong_pyproject(tmp_path: Path, text: str | None, error: str):
    project = tmp_path / "pyproject.toml"
    if text is not None:
        project.write_text(text)
    with pytest.raises(ConfigurationError, match=error):
        Settings(environ={}, pyproject=project).load()


def test_pyproject_without_the_table(tmp_path: Path):
    project = tmp_path / "pyproject.toml"
    project.write_text("[project]\nname = 'x'\n")
    assert Settings(environ={}, pyproject=project).changed() == {}


def test_module_is_imported_at_the_first_read(config_module: Any):
    name = config_module(
        "from __future__ import annotations\nimport os\nfrom datetime import timedelta\n"
        "CELERY_TASK_SERIALIZER = 'yaml'\nresult_expires = timedelta(hours=1)\nDEBUG = True\n"
        "def helper(): ...\nclass Helper: ...\n_private = 1\n"
    )
    conf = settings()
    conf.from_object(name)
    assert name not in sys.modules
    assert conf.task_serializer == "yaml" and conf.result_expires == 3600.0
    assert name in sys.modules
    assert conf.origin("task_serializer") == f"module {name}, as CELERY_TASK_SERIALIZER"
    assert conf.origin("result_expires") == f"module {name}"


@pytest.mark.parametrize("spelling", ["{}:Config", "{}.Config", "{}:Outer.Config"])
def test_object_of_a_module(config_module: Any, spelling: str):
    name = config_module("class Config:\n    task_serializer = 'yaml'\nclass Outer:\n    Config = Config\n")
    conf = settings()
    conf.from_object(spelling.format(name))
    assert conf.task_serializer == "yaml"


def test_missing_module():
    conf = settings()
    conf.from_object("no_such_module_of_umbel.config")
    with pytest.raises(ConfigurationError, match=r"no_such_module_of_umbel\.config"):
        conf.load()
    silent = settings()
    silent.from_object("no_such_module_of_umbel", silent=True)
    assert silent.changed() == {}


def test_missing_object_of_a_module(config_module: Any):
    conf = settings()
    conf.from_object(config_module("x = 1") + ":Config")
    with pytest.raises(ConfigurationError, match="has no 'Config'"):
        conf.load()


def test_error_inside_a_config_module_is_not_hidden(config_module: Any):
    conf = settings()
    conf.from_object(config_module("import no_such_dependency_of_umbel"), silent=True)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency_of_umbel"):
        conf.load()


def test_config_module_that_reads_the_configuration(config_module: Any):
    conf = settings()
    holder = types.ModuleType("umbeltestholder")
    holder.conf = conf  # pyright: ignore
    sys.modules["umbeltestholder"] = holder
    try:
        conf.from_object(config_module("from umbeltestholder import conf\nimports = conf.imports\n"))
        with pytest.raises(ConfigurationError, match="read by the module that the configuration is loaded from"):
            conf.load()
    finally:
        del sys.modules["umbeltestholder"]


def test_module_misspelling_is_an_error_and_the_rest_is_ignored_aloud(caplog: pytest.LogCaptureFixture):
    class Wrong:
        worker_concurency = 4

    class Foreign:
        favourite_colour = "green"
        CELERY_MY_EXTENSION = 1
        DATABASES = {}

        def helper(self) -> None: ...

    conf = settings()
    conf.from_object(Wrong)
    with pytest.raises(ConfigurationError, match=r"object .*Wrong.*Did you mean worker_concurrency\?"):
        conf.load()
    conf = settings()
    conf.from_object(Foreign())
    with caplog.at_level(logging.WARNING, "umbel.config"):
        assert conf.changed() == {}
    ignored = [record.getMessage() for record in caplog.records]
    assert len(ignored) == 2
    assert any("favourite_colour" in line for line in ignored)
    assert any("CELERY_MY_EXTENSION" in line for line in ignored)


def django_settings(**names: Any) -> types.SimpleNamespace:
    return types.SimpleNamespace(DEBUG=True, DATABASES={}, TIME_ZONE="UTC", **names)


def test_namespace_of_django():
    conf = settings()
    conf.from_object(
        django_settings(
            CELERY_BROKER_URL="redis://d", CELERY_TASK_ALWAYS_EAGER=True, CELERY_TASK_RESULT_EXPIRES=timedelta(1)
        ),
        namespace="CELERY",
    )
    assert conf.broker_url == "redis://d" and conf.task_always_eager is True and conf.result_expires == 86400.0
    assert set(conf.changed()) == {"broker_url", "task_always_eager", "result_expires"}


@pytest.mark.parametrize("wrap", [lambda ns: ns, vars])
def test_misspelt_name_in_a_namespace(wrap: Any):
    conf = settings()
    conf.from_object(wrap(django_settings(CELERY_TASK_SERIALISER="json")), namespace="CELERY")
    with pytest.raises(ConfigurationError, match=r"Did you mean CELERY_TASK_SERIALIZER\?"):
        conf.load()


def test_lower_case_namespace():
    conf = settings()
    conf.from_object({"celery_task_serializer": "yaml", "other": 1}, namespace="celery_")
    assert conf.task_serializer == "yaml"


def test_same_setting_under_two_names():
    conf = settings()
    with pytest.raises(ConfigurationError, match=r"twice.*task_serializer.*CELERY_TASK_SERIALIZER"):
        conf.update({"task_serializer": "json", "CELERY_TASK_SERIALIZER": "yaml"})
    conf.update({"task_serializer": "yaml", "CELERY_TASK_SERIALIZER": "yaml"})
    assert conf.task_serializer == "yaml"


def test_setting_without_effect_is_accepted_with_one_warning(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "umbel.config"):
        conf = settings(s3_bucket="b")
        assert conf.s3_bucket == "b"
        conf.from_object({"s3_bucket": "c"})
        conf.load()
    assert [record.getMessage().count("s3_bucket") for record in caplog.records] == [1]
    assert "no effect" in caplog.records[0].getMessage()


# -- copies, threads, display --------------------------------------------------------------------------


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, lambda c: pickle.loads(pickle.dumps(c))])
def test_copies_keep_values_and_origins(duplicate: Any):
    conf = from_environment(UMBEL_TIMEZONE="UTC")
    conf.from_object(types.SimpleNamespace(task_serializer="yaml"))
    conf.task_always_eager = True
    other = duplicate(conf)
    assert dict(other) == dict(conf)
    assert all(other.origin(name) == conf.origin(name) for name in conf)
    other.timezone = "Asia/Tokyo"
    assert conf.timezone == "UTC"


def test_deep_copies_share_nothing():
    conf = settings(beat_schedule={"a": {"task": "t"}})
    other = copy.deepcopy(conf)
    other.beat_schedule["a"]["task"] = "u"
    assert conf.beat_schedule["a"]["task"] == "t"


def test_concurrent_first_reads():
    for _ in range(20):
        conf = settings(task_serializer="yaml")
        start = threading.Barrier(8)
        seen: list[Any] = []

        def read(conf: Settings = conf, start: threading.Barrier = start, seen: list[Any] = seen) -> None:
            start.wait()
            seen.append((conf.task_serializer, conf.worker_lease))

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [("yaml", 5.0)] * 8


def test_representation_hides_passwords():
    conf = settings(broker_url="redis://u:hunter2@h", redis_password="hunter2")
    assert "not loaded" in repr(conf)
    conf.load()
    assert "hunter2" not in repr(conf) and "@h" in repr(conf)
