"""Names of nodes and of their files."""

from __future__ import annotations

import socket

import pytest

from umbel.nodenames import for_node, for_process, node_name


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("umbel@%h", "umbel@box.example.org"),
        ("w1", "w1@box.example.org"),
        ("w1@%n", "w1@box"),
        ("%n.w1@%d", "box.w1@example.org"),
        ("w%i%I@%h", "w0@box.example.org"),
        ("100%%@%h", "100%@box.example.org"),
        ("w%x@%h", "w%x@box.example.org"),
    ],
)
def test_node_names(template: str, name: str) -> None:
    assert node_name(template, "box.example.org") == name


def test_the_host_is_this_one() -> None:
    assert node_name() == f"umbel@{socket.gethostname()}"


@pytest.mark.parametrize(
    ("template", "supervisor", "second"),
    [
        ("%n%I.log", "w1.log", "w1-2.log"),
        ("%p/%i.log", "w1@box.example.org/0.log", "w1@box.example.org/2.log"),
        ("%h-%d.log", "box.example.org-example.org.log", "box.example.org-example.org.log"),
    ],
)
def test_files_of_processes(template: str, supervisor: str, second: str) -> None:
    of_node = for_node(template, "w1@box.example.org")
    assert (for_process(of_node, 0), for_process(of_node, 2)) == (supervisor, second)
