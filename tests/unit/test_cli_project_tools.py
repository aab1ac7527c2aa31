"""`umbel list bindings`, `umbel logtool`, `umbel upgrade settings`, and the options before a command."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from commands import memory_app, run
from umbel.abortable import AbortableTask
from umbel.cli import umbel
from umbel.cli.shell import names_for
from umbel.log.formatting import JSONFormatter, TextFormatter
from umbel.queues import Exchange, Queue


def alone(*arguments: str) -> Result:
    return CliRunner().invoke(umbel, arguments)


def test_bindings_are_those_of_the_configured_queues() -> None:
    app = memory_app(task_queues=[Queue("emails", Exchange("mail", "topic"), "mail.#"), "plain"])
    result = run(app, "list", "bindings")
    assert [line.split("\t") for line in result.stdout.splitlines()] == [
        ["queue", "exchange", "type", "routing key"],
        ["emails", "mail", "topic", "mail.#"],
        ["plain", "plain", "direct", "plain"],
    ]
    assert json.loads(run(app, "list", "bindings", "--json").stdout)[0] == {
        "queue": "emails",
        "exchange": "mail",
        "type": "topic",
        "routing_key": "mail.#",
    }


# -- upgrade settings --

OLD = """\
BROKER_URL = 'amqp://'
CELERY_ROUTES = {'a': {'queue': 'CELERY_ROUTES here'}}  # CELERY_ROUTES
CELERY_MINE = 2
app.conf.update({"CELERYD_CONCURRENCY": 4}, CELERY_SEND_EVENTS=True)
print(CELERY_ROUTES, CELERY_ROUTES)
"""


@pytest.mark.parametrize("options", [(), ("--django",), ("--compat", "--no-backup")])
def test_settings_get_their_present_names(tmp_path: Path, options: tuple[str, ...]) -> None:
    file = tmp_path / "config.py"
    file.write_text(OLD)
    result = alone("upgrade", "settings", str(file), *options)
    assert result.exit_code == 0, result.output
    url, routes, workers, events = (
        (f"CELERY_{name.upper()}" if options else name)
        for name in ("broker_url", "task_routes", "worker_concurrency", "worker_send_task_events")
    )
    assert file.read_text() == (
        f"{url} = 'amqp://'\n{routes} = {{'a': {{'queue': 'CELERY_ROUTES here'}}}}  # CELERY_ROUTES\nCELERY_MINE = 2\n"
        f'app.conf.update({{"{workers}": 4}}, {events}=True)\nprint({routes}, {routes})\n'
    )
    backup = Path(f"{file}.orig")
    assert backup.exists() == ("--no-backup" not in options) and "6 names changed" in result.output
    if backup.exists():
        assert backup.read_text() == OLD
    again = alone("upgrade", "settings", str(file), *options)
    assert again.exit_code == 0 and "nothing to change" in again.output


def test_line_ends_and_encoding_stay(tmp_path: Path) -> None:
    file = tmp_path / "config.py"
    file.write_bytes("# -*- coding: latin-1 -*-\r\nNAME = 'é'; BROKER_URL = 1\r\n".encode("latin-1"))
    assert alone("upgrade", "settings", str(file)).exit_code == 0
    assert file.read_bytes() == "# -*- coding: latin-1 -*-\r\nNAME = 'é'; broker_url = 1\r\n".encode("latin-1")


def test_what_is_not_python_is_left(tmp_path: Path) -> None:
    file = tmp_path / "config.py"
    file.write_text("BROKER_URL = (\n")
    result = alone("upgrade", "settings", str(file))
    assert result.exit_code == 1 and "is not valid Python" in str(result.exception)
    assert file.read_text() == "BROKER_URL = (\n" and list(tmp_path.iterdir()) == [file]


# -- logtool --

TRACE = "Traceback (most recent call last):\nValueError: x"
RECORDS: list[tuple[str, int, str, dict[str, Any]]] = [
    ("umbel.worker", logging.DEBUG, "looking", {}),
    ("umbel.task", logging.INFO, "task succeeded", {"task": "proj.add", "id": "1", "runtime": 0.5}),
    ("umbel.task", logging.INFO, "task is to be retried", {"task": "proj.add", "id": "2", "reason": "Retry in 1s"}),
    (
        "umbel.task",
        logging.ERROR,
        "task failed\nTraceback (most recent call last):\nValueError: x",
        {"task": "b", "id": "3"},
    ),
    (
        "umbel.task",
        logging.ERROR,
        "task failed\nTraceback (most recent call last):\nValueError: x",
        {"task": "b", "id": "4"},
    ),
    ("umbel.task", logging.ERROR, "task lost its process", {"task": "b", "id": "5", "reason": "signal 9"}),
    ("umbel.task", logging.ERROR, "message dead-lettered", {"task": "b", "id": "5", "reason": "lost"}),
    ("umbel.task", logging.WARNING, "task is not known here, message parked", {"task": "c", "id": "6"}),
    ("proj.tasks", logging.INFO, "task succeeded", {"task": "proj.add", "id": "2"}),
]


@pytest.fixture(params=[TextFormatter(), JSONFormatter()], ids=["text", "json"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    file = tmp_path / "worker.log"
    lines = ["something that another program printed"]
    for logger, level, text, data in RECORDS:
        record = logging.LogRecord(logger, level, "", 0, text, (), None)
        record.data = data
        lines.append(request.param.format(record))
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def cells(*arguments: str) -> list[list[str]]:
    result = alone("logtool", *arguments)
    assert result.exit_code == 0, result.output
    return [line.split("\t") for line in result.stdout.splitlines()]


def test_a_log_is_counted(log: str) -> None:
    assert cells("stats", log) == [
        ["task", "event", "count"],
        ["b", "dead-lettered", "1"],
        ["b", "failed", "2"],
        ["b", "lost its process", "1"],
        ["c", "is not known here, message parked", "1"],
        ["proj.add", "is to be retried", "1"],
        ["proj.add", "succeeded", "1"],
    ]


def test_tasks_without_an_end_are_found(log: str) -> None:
    assert cells("incomplete", log) == [
        ["id", "task", "event"],
        ["2", "proj.add", "is to be retried"],
        ["6", "c", "is not known here, message parked"],
    ]


def test_a_traceback_is_shown_once(log: str) -> None:
    found = alone("logtool", "traces", log).stdout
    assert found.count("ValueError: x") == 1 and found.startswith("2 times:\nTraceback")


def test_records_of_a_level_are_shown(log: str) -> None:
    errors = alone("logtool", "errors", log).stdout
    assert errors.count("ValueError: x") == 2 and "dead-lettered" in errors and "succeeded" not in errors
    debug = alone("logtool", "debug", log).stdout
    assert "looking" in debug and len(debug.splitlines()) == 1


# -- options before the command, and of commands --


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "settings_of_a_test.py").write_text(
        "task_default_queue = 'mine'\nbroker_url = 'memory://x'\ntask_routes = [lambda *a, **k: None]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("UMBEL_TASK_DEFAULT_QUEUE", "of_the_environment")
    return "settings_of_a_test"


def test_config_names_a_module_with_settings(config: str) -> None:
    result = alone("--config", config, "-b", "memory://y", "config", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["task_default_queue"] == {"value": "mine", "origin": "the command line"}
    assert found["task_routes"]["origin"] == "--config settings_of_a_test"
    assert found["broker_url"]["value"] == "memory://y"
    missing = alone("--config", "no_such_module", "config")
    assert missing.exit_code == 1 and "no_such_module" in missing.output


def test_no_color_and_skip_checks_hold_for_processes_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "CELERY_SKIP_CHECKS"):
        monkeypatch.setenv(name, "")
    assert alone("-C", "--skip-checks", "list").exit_code in (0, 2)
    assert os.environ["NO_COLOR"] == os.environ["CELERY_SKIP_CHECKS"] == "1"


def test_a_loader_is_for_projects_of_celery() -> None:
    result = alone("--loader", "default", "config")
    assert result.exit_code == 2 and "--as-celery" in result.output


def test_result_by_the_name_of_its_task() -> None:
    app = memory_app()

    @app.task(base=AbortableTask, name="work")
    def work() -> int:
        return 1

    sent = work.delay()
    work.AsyncResult(sent.id).abort()
    result = run(app, "result", sent.id, "--task", "work", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["state"] == "ABORTED"
    unknown = run(app, "result", sent.id, "-t", "none")
    assert unknown.exit_code == 1 and "none" in str(unknown.exception)


def test_a_shell_without_tasks() -> None:
    app = memory_app()

    @app.task(name="proj.of_this_test")
    def work() -> int:
        return 1

    assert names_for(app)["of_this_test"] is app.tasks["proj.of_this_test"]
    names = names_for(app, tasks=False)
    assert "of_this_test" not in names and names["app"] is app and "chain" in names
    result = run(
        app, "shell", "--python", "-T", answer="print(sorted(n for n in dir() if n == 'of_this_test' or n == 'app'))"
    )
    assert result.exit_code == 0 and "['app']" in result.output


# -- amqp --


def test_a_queue_is_made_filled_emptied_and_deleted() -> None:
    app = memory_app()

    def amqp(*arguments: str, status: int = 0) -> str:
        result = run(app, "amqp", *arguments)
        assert result.exit_code == status, result.output
        return result.stdout if not status else str(result.exception)

    assert amqp("queue.declare", "q") == "queue q: 0 messages\n" and "q" in app.broker.queues()
    assert amqp("queue.declare", "q", "yes") == "queue q: 0 messages\n"
    assert "no queue 'none'" in amqp("queue.declare", "none", "yes", status=1)
    assert amqp("queue.bind", "q", "x", "key") == "queue q is bound to direct exchange x by 'key'\n"
    assert amqp("basic.publish", "one", "", "q") == amqp("basic.publish", "two", "x", "key") == "sent\n"
    assert "not empty" in amqp("queue.delete", "q", "no", "yes", status=1)
    got = json.loads(amqp("basic.get", "q"))
    assert got["body"] == "one" and got["content_type"] == "text/plain" and got["delivery_tag"] == 1
    assert app.broker.size("q").ready == 2, "given back at the end of the session"
    assert json.loads(amqp("basic.get", "q", "yes"))["body"] == "one" and app.broker.size("q").ready == 1
    assert "no message is held" in amqp("basic.ack", "1", status=1)
    assert amqp("queue.purge", "q") == "1 message deleted\n" and amqp("basic.get", "q") == "no message in queue q\n"
    assert "deleted" in amqp("queue.delete", "q", "yes", "yes") and "q" not in app.broker.queues()


def test_a_session_of_amqp() -> None:
    app = memory_app()
    lines = [
        "basic.publish 'some text' '' q",
        "basic.get q",
        "basic.ack 2",
        "no.such.command",
        "",
        "queue.delete q yes",
        "basic.ack 1",
        ":q",
        "queue.declare never_reached",
    ]
    result = run(app, "-q", "amqp", answer="\n".join(lines))
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["body"] == "some text"
    errors = result.stderr.splitlines()
    assert len(errors) == 3 and "tag 2" in errors[0] and "no.such.command" in errors[1] and "in use" in errors[2]
    assert app.broker.size("q").ready == 0 and "never_reached" not in app.broker.queues()
