"""How pools are found by name, how large they are, and what is said when they cannot be had."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from umbel.config import Settings
from umbel.errors import ConfigurationError, MissingExtra
from umbel.executors.lanes import ALIASES, BUILTIN, find_lanes
from umbel.executors.lanes.base import Lanes
from umbel.executors.lanes.coroutines import AsyncioLanes
from umbel.executors.lanes.prefork import PreforkLanes, SoloLanes
from umbel.executors.lanes.threads import ThreadLanes
from umbel.worker.size import Size, size_of


class OwnLanes(ThreadLanes):
    name = "own"


class WithoutLibrary(ThreadLanes):
    name = "without"
    library = "a_library_that_nobody_has"


class NoLanes:
    pass


@pytest.mark.parametrize("name", BUILTIN)
def test_each_pool_is_found_by_its_name(name: str) -> None:
    assert find_lanes(name).name == name


def test_celerys_names_are_understood() -> None:
    for alias, name in ALIASES.items():
        assert find_lanes(alias) is find_lanes(name)


def test_an_own_pool_is_found_by_module_and_class_or_given() -> None:
    assert find_lanes(f"{__name__}:OwnLanes").__qualname__ == "OwnLanes"
    assert find_lanes(OwnLanes) is OwnLanes


def test_an_own_pool_is_found_by_its_entry_point(tmp_path: Path) -> None:
    info = tmp_path / "own_pool-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-pool\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[umbel.pools]\nsessions = own_pool:SessionLanes\n")
    example = Path(__file__).parents[2] / "examples/own_pool/sessions.py"
    (tmp_path / "own_pool.py").write_text(example.read_text())
    script = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from umbel.executors.lanes import find_lanes
        assert find_lanes("sessions").name == "sessions"
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        ("geven", "unknown pool 'geven': did you mean 'gevent'?"),
        ("carrots", "known are asyncio, eventlet, gevent, prefork, solo, threads"),
        ("nowhere.to.be:Found", "cannot be imported"),
        (f"{__name__}:Missing", "cannot be imported"),
        (f"{__name__}:NoLanes", "must derive from Lanes"),
        (NoLanes, "must derive from Lanes"),
    ],
)
def test_what_is_no_pool_is_refused(pool: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=r"pool") as refused:
        find_lanes(pool)
    assert words in str(refused.value)


def test_a_missing_library_is_named_with_its_extra() -> None:
    with pytest.raises(MissingExtra, match=r"pip install 'umbel\[a_library_that_nobody_has\]'"):
        find_lanes(WithoutLibrary)


@pytest.mark.parametrize(
    ("kind", "settings", "concurrency", "processes", "size"),
    [
        (PreforkLanes, {}, 3, None, Size(3, 1)),
        (PreforkLanes, {}, None, 3, Size(3, 1)),
        (PreforkLanes, {"worker_concurrency": 5}, None, None, Size(5, 1)),
        (ThreadLanes, {}, 10, None, Size(1, 10)),
        (ThreadLanes, {}, 10, 2, Size(2, 10)),
        (ThreadLanes, {"worker_concurrency": 5, "worker_processes": 2}, None, None, Size(2, 5)),
        (ThreadLanes, {"worker_concurrency": 5}, 7, None, Size(1, 7)),
        (AsyncioLanes, {}, None, 2, Size(2, 100)),
        (SoloLanes, {}, None, None, Size(1, 1)),
    ],
)
def test_the_size_of_a_worker(
    kind: type[Lanes], settings: dict[str, int], concurrency: int | None, processes: int | None, size: Size
) -> None:
    assert size_of(kind, Settings(settings, environ={}), concurrency, processes) == size


@pytest.mark.parametrize(
    ("kind", "concurrency", "processes", "words"),
    [
        (PreforkLanes, 0, None, "concurrency of a worker must be at least 1, not 0"),
        (ThreadLanes, -3, None, "concurrency of a worker must be at least 1, not -3"),
        (ThreadLanes, 1, 0, "processes of a worker must be at least 1, not 0"),
        (PreforkLanes, 4, 2, "--concurrency 4 and --processes 2 contradict each other"),
        (SoloLanes, 2, None, "solo runs one task at a time"),
    ],
)
def test_impossible_sizes_are_refused(
    kind: type[Lanes], concurrency: int | None, processes: int | None, words: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        size_of(kind, Settings({}, environ={}), concurrency, processes)
    assert words in str(refused.value)
