"""``umbel report``, ``umbel shell`` and the reference of the command line."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

import umbel as package
from commands import memory_app, run
from umbel.cli import output, reference
from umbel.cli.shell import names_for

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "cli.md"


def test_report_masks_what_is_secret() -> None:
    app = memory_app(redis_password="hunter2", broker_transport_options={"password": "hunter2"}, task_acks_late=False)
    app.conf.assign({"broker_url": "memory://user:hunter2@place"}, "a test")
    for arguments in (["report"], ["report", "--json"]):
        result = run(app, *arguments)
        assert result.exit_code == 0, result.output
        assert "hunter2" not in result.output
        assert package.__version__ in result.output and "memory://user:***@place" in result.output
    document = json.loads(run(app, "report", "--json").stdout)
    assert document["settings"]["task_acks_late"] is False
    assert document["libraries"]["msgspec"] and "broker_url" in document["settings"]
    assert "task_serializer" not in document["settings"]


def test_names_in_the_shell() -> None:
    app = memory_app()
    for name in ("proj.a.add", "proj.a.same", "proj.b.same"):
        app.make_task(lambda: None, name=name)
    names = names_for(app)
    assert names["app"] is app and names["umbel"] is package
    assert names["add"].name == "proj.a.add"
    assert "same" not in names
    assert names["AsyncResult"] is package.AsyncResult


def test_shell_runs_what_is_piped_in() -> None:
    app = memory_app()
    app.make_task(lambda x: x * 2, name="proj.double")
    result = run(app, "shell", "--python", answer="def f():\n    return double(21)\nprint(f(), app.main)\n")
    assert (result.exit_code, result.stdout) == (0, "42 proj\n")


def test_the_reference_is_current() -> None:
    assert PAGE.read_text() == reference.page(), "run: python -m umbel.cli.reference docs/reference/cli.md"


def test_a_misspelt_command_is_answered_with_the_nearest() -> None:
    result = run(memory_app(), "queus")
    assert result.exit_code == 2 and "Did you mean 'queues'?" in result.output


def test_json_of_what_json_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    output.write_json({1: {"x": {1, 2}, "y": (object, b"ab")}, "z": float("nan")}, indent=0)
    written = json.loads(capsys.readouterr().out)
    assert written["1"]["x"] == [1, 2] and written["1"]["y"] == [repr(object), "YWI="] and written["z"] is None


def test_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    Console(file=stream, width=60).print(output.rich_table(("name", "count"), [("[red]a", 5), ("b", 10)]))
    head, _, first, second = (line.rstrip() for line in stream.getvalue().splitlines() if line.strip())
    assert head.split() == ["name", "count"] and first.split() == ["[red]a", "5"]
    assert first.endswith("   5") and second.endswith("  10")


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert output.coloured()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not output.coloured()
