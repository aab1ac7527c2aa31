"""The debugger over the network: sessions, ports, and what ends them."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from umbel.errors import ConfigurationError
from umbel.rdb import Rdb
from workers import wait_for


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


class Program(threading.Thread):
    """Some code that opens a debugger, in a thread of its own."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.out = io.StringIO()
        self.result: Any = None

    def run(self) -> None:
        debugger = Rdb("127.0.0.1", self.port, out=self.out)
        number = 1
        debugger.set_trace()
        number += 1
        number += 1
        self.result = number

    def connect(self) -> socket.socket:
        wait_for(lambda: "waiting: telnet" in self.out.getvalue())
        return socket.create_connection(("127.0.0.1", int(self.out.getvalue().split()[-1])), timeout=10)


@pytest.fixture
def program(port: int) -> Iterator[Program]:
    made = Program(port)
    made.start()
    yield made
    made.join(10)
    assert not made.is_alive()


def says(program: Program, *commands: str) -> str:
    with program.connect() as session:
        session.sendall("".join(f"{command}\n" for command in commands).encode())
        return session.makefile().read()


@pytest.mark.parametrize("end", ["c", "cont", "continue", "q", "quit", "exit"])
def test_a_session_ends_and_the_program_goes_on(program: Program, end: str) -> None:
    said = says(program, "p number + 40", "n", "p number", end)
    assert "(umbel-rdb) 41" in said
    program.join(10)
    assert program.result == 3
    assert program.out.getvalue().endswith("session ended\n")


def test_a_connection_that_breaks_ends_the_session(program: Program) -> None:
    program.connect().close()
    program.join(10)
    assert program.result == 3


def test_a_value_is_changed(program: Program) -> None:
    says(program, "!number = 10", "c")
    program.join(10)
    assert program.result == 12


def test_the_next_free_port_is_taken(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        program = Program(port)
        program.start()
        says(program, "c")
        program.join(10)
    assert f"Remote Debugger:{port}:" not in program.out.getvalue()


def test_no_free_port(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)), pytest.raises(ConfigurationError, match="UMBEL_RDB_PORT"):
        Rdb("127.0.0.1", port, port_search_limit=1)
