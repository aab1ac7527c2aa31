"""``umbel config``."""

import json
import types
from typing import Any

import pytest
from click.testing import CliRunner, Result

from umbel.cli.config import config
from umbel.config import DECLARED, Settings

HELP = ["-h", "--help"]
"""Those of `umbel`: a command keeps the help option of its first call in the process."""


def run(*arguments: str, conf: Settings | None = None, **environment: str) -> Result:
    app: Any = None if conf is None else types.SimpleNamespace(conf=conf)
    return CliRunner().invoke(config, list(arguments), obj=app, env=environment, help_option_names=HELP)


def a_configuration() -> Settings:
    conf = Settings(
        {"broker_url": "redis://user:hunter2@host:6379/1", "task_always_eager": True},
        environ={"UMBEL_WORKER_CONCURRENCY": "3", "UMBEL_REDIS_PASSWORD": "hunter2"},
    )
    conf.from_object({"broker_transport_options": {"sentinel_kwargs": {"password": "hunter2"}, "x": 1}})
    return conf


def test_shows_every_setting_with_its_origin():
    result = run(conf=a_configuration())
    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: line for line in result.output.splitlines()}
    assert set(lines) == set(DECLARED)
    assert lines["worker_concurrency"].split() == ["worker_concurrency", "3", "environment", "UMBEL_WORKER_CONCURRENCY"]
    assert "test_config_cli.py:" in lines["task_always_eager"]
    assert lines["task_serializer"].split() == ["task_serializer", "'json'", "default"]


def test_changed_only():
    result = run("--changed", conf=a_configuration())
    names = {line.split()[0] for line in result.output.splitlines()}
    assert names == {
        "broker_url",
        "task_always_eager",
        "worker_concurrency",
        "redis_password",
        "broker_transport_options",
    }
    assert run("--changed", conf=Settings(environ={})).output == "every setting is at its default\n"


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--changed"], ["broker_url"], ["redis_password", "--json"]])
def test_secrets_are_masked(arguments: list[str]):
    result = run(*arguments, conf=a_configuration())
    assert result.exit_code == 0, result.output
    assert "hunter2" not in result.output and "****" in result.output


def test_several_urls_are_masked_each():
    conf = Settings({"broker_url": "amqp://a:p;w@one;amqp://b:p@w@two", "result_backend": "x://h?password=pw1&y=2"})
    result = run("--json", "--changed", conf=conf)
    shown = json.loads(result.output)
    assert shown["broker_url"]["value"] == "amqp://a:********@one;amqp://b:********@two"
    assert shown["result_backend"]["value"] == "x://h?password=********&y=2"


def test_json_is_json_whatever_the_values():
    conf = Settings({"worker_pool": dict, "task_routes": [sorted], "security_key_password": b"x"}, environ={})
    shown = json.loads(run("--json", conf=conf).output)
    assert set(shown) == set(DECLARED)
    assert shown["result_backend_max_retries"] == {"value": "inf", "origin": "default"}
    assert "sorted" in shown["task_routes"]["value"][0]


def test_explains_one_setting_also_by_its_old_name():
    result = run("CELERY_ACKS_LATE", conf=a_configuration())
    assert result.output.splitlines()[0] == "task_acks_late = True"
    for part in ("Acknowledge", "bool", "Celery: False", "origin", "UMBEL_TASK_ACKS_LATE", "CELERY_ACKS_LATE"):
        assert part in result.output
    assert "no effect in Umbel" in run("worker_timer", conf=a_configuration()).output
    explained = json.loads(run("worker_lease", "--json", conf=a_configuration()).output)
    assert explained["type"] == "float" and explained["default"] == 5.0 and explained["old_name"] is None


def test_unknown_name_is_one_line():
    result = run("task_serialiser", conf=a_configuration())
    assert result.exit_code == 1
    assert result.output == ("Error: unknown setting task_serialiser (command line). Did you mean task_serializer?\n")


def test_without_an_application_environment_and_pyproject_count(tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "pyproject.toml").write_text('[tool.umbel]\nkey_prefix = "p:"\n')
    monkeypatch.chdir(tmp_path)
    shown = json.loads(run("--changed", "--json", UMBEL_TIMEZONE="UTC").output)
    assert shown["key_prefix"]["value"] == "p:" and shown["timezone"]["origin"] == "environment UMBEL_TIMEZONE"


def test_misspelt_environment_is_an_error():
    result = run(UMBEL_TIMEZON="UTC")
    assert result.exit_code == 1 and "Did you mean UMBEL_TIMEZONE?" in result.output
