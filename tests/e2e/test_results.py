"""Results of a real worker: progress while a task runs, groups as they come, and the tree of what tasks have sent."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from umbel import group
from umbel.errors import IncompleteStream
from workers import fleet, imported, wait_for

TIMEOUT = 30


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """``apps.reporting`` here and in a worker, on one file."""
    directory = tmp_path_factory.mktemp("results")
    url = f"sqlite:///{directory / 'umbel.db'}"
    with fleet(directory, url, url) as workers, imported("apps.reporting", workers.environment) as module:
        workers.start("-c", "1", app="apps.reporting")
        yield module


def test_progress_is_shown_while_the_task_runs(
    tasks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", written := io.StringIO())
    go_on = tmp_path / "go-on"
    seen: list[Any] = []

    def on_message(meta: dict[str, Any]) -> None:
        seen.append((meta["status"], meta["result"]))
        if meta["status"] == "PROGRESS":
            go_on.touch()

    result = tasks.encode.delay(os.fspath(go_on))
    assert result.get(timeout=TIMEOUT, on_message=on_message, progress=True) == "encoded"
    progress = {"current": 2, "total": 8, "percent": 25.0, "step": "first pass"}
    assert seen[-2:] == [("PROGRESS", progress), ("SUCCESS", "encoded")]
    assert written.getvalue().startswith("apps.reporting.encode: SUCCESS after ")


def test_a_group_as_it_comes(tasks: ModuleType) -> None:
    async def main() -> list[int]:
        whole = group(tasks.add.s(number, number) for number in range(200)).apply_async()
        return [await result async for result in whole]

    assert sorted(asyncio.run(asyncio.wait_for(main(), TIMEOUT))) == [2 * number for number in range(200)]


def test_what_a_task_has_sent(tasks: ModuleType) -> None:
    result = tasks.spread.delay(3)
    with pytest.raises(IncompleteStream):
        tasks.app.AsyncResult("never").graph  # noqa: B018 - asked for its error
    assert result.get(timeout=TIMEOUT) == 3

    def whole() -> Any:
        try:
            return list(result.collect(timeout=TIMEOUT))
        except IncompleteStream:
            return None

    found = wait_for(whole, TIMEOUT, "all that was sent")
    assert [value for _, value in found] == [3, 2, [4, 5], 1, [3, 4], 4, 5, 0, [2, 3], 3, 4, 2, 3]
    assert len(result.graph) == 13 and result.graph.topsort()[-1] == result
