"""Options that applications add to ``umbel worker``, and ``umbel graph bootsteps``."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import click
import pytest

from commands import memory_app, run
from umbel import bootsteps


class Mine(bootsteps.StartStopStep):
    requires = ("Pool",)


class Theirs(bootsteps.StartStopStep):
    requires = ("Mine",)


class Unmakeable(bootsteps.Step):
    """Tells its options by an error, so that no worker has to be started to see them."""

    def __init__(self, worker: Any, **options: Any) -> None:
        raise ValueError(f"options: {options['greeting']!r} {options['loud']} {options['hostname']} {options['grace']}")


def greeting_app(**more: Any) -> Any:
    app = memory_app()
    app.user_options["worker"].add(click.Option(("--greeting",), help="What to say.", **more))
    app.user_options["worker"].add(click.option("-Z", "--loud/--quietly", default=False))
    app.steps["worker"].add(Unmakeable)
    return app


def test_added_options_are_in_the_help() -> None:
    result = run(greeting_app(), "worker", "--help")
    assert result.exit_code == 0, result.output
    assert "--greeting TEXT" in result.output and "What to say." in result.output and "-Z, --loud" in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--greeting", "hello", "-n", "a@b", "-Z", "--grace", "2"], "'hello' True a@b 2.0"),
        (["--greeting=hello"], "'hello' False None None"),
        (["-n", "a@b"], "None False a@b None"),
    ],
)
def test_added_options_reach_steps(arguments: list[str], says: str) -> None:
    result = run(greeting_app(), "worker", "--quiet", *arguments)
    assert result.exit_code == 1
    assert f"options: {says}" in str(result.exception)


def test_defaults_and_required_options_hold_without_being_given() -> None:
    result = run(greeting_app(default="hi"), "worker", "--quiet")
    assert "options: 'hi' False" in str(result.exception)
    result = run(greeting_app(required=True), "worker", "--quiet")
    assert result.exit_code == 2 and "Missing option '--greeting'" in result.output


def test_unknown_options_are_refused() -> None:
    for app in (memory_app(), greeting_app()):
        result = run(app, "worker", "--greetin", "x")
        assert result.exit_code == 2 and "No such option" in result.output and "--greetin" in result.output


@pytest.mark.parametrize("given", [click.Option(("--queues",)), click.option("-c", "--cups"), "--greeting"])
def test_options_that_cannot_be_added(given: Any) -> None:
    app = memory_app()
    app.user_options["worker"].add(given)
    result = run(app, "worker", "--quiet")
    assert result.exit_code == 1 and "app.user_options['worker']" in str(result.exception)


def test_the_graph_of_an_application() -> None:
    app = memory_app()
    app.steps["worker"].add(Mine)
    app.steps["consumer"].add("umbel.bootsteps:ConsumerStep")
    result = run(app, "graph", "bootsteps")
    assert result.exit_code == 0, result.output
    assert re.search(r'label="\d Mine", style="filled"', result.output)
    assert 'ConsumerStep" -> "consumer:umbel.worker.consumer.Connection"' in result.output


def test_the_graph_of_a_circle_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mine, "requires", (Theirs,))
    app = memory_app()
    app.steps["worker"].update([Mine, Theirs])
    for arguments in (["graph", "bootsteps"], ["worker", "--quiet"]):
        result = run(app, *arguments)
        assert result.exit_code == 1
        assert "circle" in str(result.exception) and "Mine" in str(result.exception), result.exception


def test_the_graph_as_a_file(tmp_path: Path) -> None:
    result = run(memory_app(), "graph", "bootsteps", "--output", str(tmp_path / "steps.dot"))
    assert (result.exit_code, result.output) == (0, "")
    assert (tmp_path / "steps.dot").read_text().startswith("digraph")
    assert "no ending" in str(run(memory_app(), "graph", "bootsteps", "-o", str(tmp_path / "steps")).exception)


def test_a_picture_without_graphviz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run(memory_app(), "graph", "bootsteps", "-o", str(tmp_path / "steps.png"))
    assert result.exit_code == 1 and "'dot' is not installed" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed: apt-get install graphviz")
def test_a_picture(tmp_path: Path) -> None:
    for name, begin in (("steps.svg", b"<?xml"), ("steps.png", b"\x89PNG")):
        result = run(memory_app(), "graph", "bootsteps", "-o", str(tmp_path / name))
        assert result.exit_code == 0, result.exception
        assert (tmp_path / name).read_bytes().startswith(begin)
    result = run(memory_app(), "graph", "bootsteps", "-o", str(tmp_path / "steps.tiff9"))
    assert "dot could not write" in str(result.exception)
