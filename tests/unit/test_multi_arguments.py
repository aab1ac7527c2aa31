"""Celery's conventions for the arguments of ``multi``."""

from __future__ import annotations

import signal

import click
import pytest

from umbel.cli.multi_arguments import parse


def options(*words: str) -> dict[str, list[str]]:
    """Words for each node, by its name without the host."""
    return {node.name.partition("@")[0]: node.arguments() for node in parse([*words, "--suffix=here"]).nodes}


def test_a_number_stands_for_so_many_nodes() -> None:
    assert [node.name for node in parse(["3", "--suffix=here"]).nodes] == ["umbel1@here", "umbel2@here", "umbel3@here"]
    assert list(options("2", "--prefix=w")) == ["w1", "w2"]
    assert list(options("2", "--range-prefix", "celery")) == ["celery1", "celery2"]
    assert list(options("a", "b", "--prefix=proj-")) == ["proj-a", "proj-b"]


def test_a_name_with_a_host_keeps_it() -> None:
    assert [node.name for node in parse(["a@x", "b", "--suffix=y"]).nodes] == ["a@x", "b@y"]


def test_options_are_for_all_or_for_some() -> None:
    assert options("a", "b", "c", "-c", "3", "-c:a", "5", "-Q:2,c", "images", "--loglevel:3=debug", "-E") == {
        "a": ["-c", "3", "-c", "5", "-E"],
        "b": ["-c", "3", "-Q", "images", "-E"],
        "c": ["-c", "3", "-Q", "images", "--loglevel=debug", "-E"],
    }
    assert options("10", "-c:1-3", "7", "-c:10,5", "9") == {
        f"umbel{number}": {1: ["-c", "7"], 2: ["-c", "7"], 3: ["-c", "7"], 5: ["-c", "9"], 10: ["-c", "9"]}.get(
            number, []
        )
        for number in range(1, 11)
    }


def test_a_flag_takes_no_value_from_the_names_that_follow() -> None:
    assert options("-E", "a", "--purge", "b") == {"a": ["-E", "--purge"], "b": ["-E", "--purge"]}


def test_options_of_the_application_stand_before_the_command() -> None:
    request = parse(["2", "-A", "proj", "--workdir=/srv", "-c", "1", "--", "--quiet", "-X", "y"])
    assert request.application == ["-A", "proj", "--workdir", "/srv"]
    assert request.passed_on == ["--quiet", "-X", "y"]


def test_files_are_named_after_nodes() -> None:
    (node,) = parse(["a", "--pidfile=run/%n.pid", "-f", "log/%n%I.log"]).nodes
    assert (node.option("--pidfile"), node.option("--logfile")) == ("run/%n.pid", "log/%n%I.log")
    assert node.arguments() == []
    (node,) = parse(["a"]).nodes
    assert (node.option("--pidfile"), node.option("--logfile")) == ("%n.pid", "%n%I.log")


@pytest.mark.parametrize(
    ("word", "number"),
    [("-9", signal.SIGKILL), ("-QUIT", signal.SIGQUIT), ("-SIGINT", signal.SIGINT), ("-USR1", signal.SIGUSR1)],
)
def test_a_signal(word: str, number: signal.Signals) -> None:
    assert parse(["a", word]).signal is number


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], "Which nodes"),
        (["0"], "At least one"),
        (["a", "a"], "named twice"),
        (["a", "-c"], "-c needs a value"),
        (["a", "--concurency", "3"], "No such option '--concurency'"),
        (["a", "-E:b"], "there is no node 'b'; the nodes are a@"),
        (["3", "-c:2-4", "1"], "there is no node '2-4'; the nodes are 1 to 3"),
        (["3", "-c:0", "1"], "there is no node '0'"),
        (["a", "--purge=yes"], "--purge takes no value"),
        (["a", "-A:a", "proj"], "-A is for all nodes"),
        (["a", "-WRONG"], "No such signal 'WRONG'"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], error: str) -> None:
    with pytest.raises(click.UsageError) as raised:
        parse(words)
    assert error in raised.value.message
