"""`python -m benchmarks`: measure Umbel and its peers side by side, in one run."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from benchmarks import venvs
from benchmarks.budgets import as_json, judge
from benchmarks.figures import BARE, FIGURES, QUICK, Bench, Figure, Plan, Values
from benchmarks.processes import BenchmarkError, Scope
from benchmarks.registry import System, select
from benchmarks.report import brief, number, show, write_docs
from benchmarks.servers import Servers

DEFAULT_JSON = ".bench/latest.json"
DRIVER_PACKAGES = ("redis", "hiredis", "pika", "amqp", "asyncpg", "psycopg", "sqlalchemy", "uvloop")


def main() -> int:
    options = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 150)
    try:
        if options.write_docs:
            print(f"wrote {write_docs(json.loads(Path(options.json).read_text()))}")
            return 0
        systems, figures = select(_names(options.systems)), _figures(_names(options.only))
    except (ValueError, OSError, BenchmarkError) as error:
        console.print(f"error: {error}", style="red", highlight=False)
        return 2
    plan = QUICK if options.quick else Plan()
    if options.runs:
        plan = replace(plan, runs=options.runs)
    path = Path(options.json)
    path.parent.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        report = _measure(figures, systems, plan, console, path)
    except KeyboardInterrupt:
        console.print(f"interrupted; all that was started is ended, what was measured is in {path}", style="yellow")
        return 130
    show(report, console)
    console.print(f"raw figures: {path}", highlight=False)
    failed = [v for v in judge(report["figures"]) if v.passed is False]
    return 1 if failed or report["problems"] else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default="", metavar="FIGURE,…", help=", ".join(f.name for f in FIGURES))
    parser.add_argument("--systems", default="", metavar="NAME,…", help="peer@broker, peer, or @broker")
    parser.add_argument("--quick", action="store_true", help="small and short: to see that all works")
    parser.add_argument("--runs", type=int, default=0, metavar="K", help="runs of each system in each figure")
    parser.add_argument("--json", default=DEFAULT_JSON, metavar="FILE", help="raw figures (default: %(default)s)")
    parser.add_argument("--write-docs", action="store_true", help="write docs/performance.md from the JSON file")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _figures(names: list[str]) -> list[Figure]:
    known = {figure.name: figure for figure in FIGURES}
    for name in names:
        if name not in known:
            raise ValueError(f"no figure is called {name!r}; there are {', '.join(known)}")
    return [figure for figure in FIGURES if not names or figure.name in names]


def _measure(
    figures: Sequence[Figure], systems: Sequence[System], plan: Plan, console: Console, path: Path
) -> dict[str, Any]:
    """Every figure, `plan.runs` rounds of it, every system once in each round; after each the report, so far, is
    written to `path`."""
    load_before = os.getloadavg()[0]
    report: dict[str, Any] = {}
    results: dict[str, dict[str, list[Values]]] = {}
    problems: dict[tuple[str, str], str] = {}
    with Scope() as scope:
        servers = Servers(scope)
        bench = Bench(scope, servers, plan)
        for figure in figures:
            covered = [system for system in systems if figure.covers(system)]
            if not covered:
                continue
            console.rule(figure.title, align="left")
            table = results.setdefault(figure.name, {})
            for _ in range(min(plan.runs, figure.max_runs)):
                for system in covered:
                    if (figure.name, system.name) not in problems:
                        try:
                            table.setdefault(system.name, []).append(figure.measure(bench, system))
                        except BenchmarkError as error:
                            problems[figure.name, system.name] = str(error)
                        _progress(console, figure, system.name, table, problems)
                if figure.measure_bare is not None:
                    table.setdefault(BARE, []).append(figure.measure_bare(bench))
                    _progress(console, figure, BARE, table, problems)
            report = {
                "about": _about(servers, systems, load_before),
                "figures": {name: {s: runs for s, runs in table.items() if runs} for name, table in results.items()},
                "problems": [{"figure": f, "system": s, "error": error} for (f, s), error in problems.items()],
                "budgets": as_json(judge(results)),
            }
            path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return report


def _progress(
    console: Console,
    figure: Figure,
    system: str,
    table: dict[str, list[Values]],
    problems: dict[tuple[str, str], str],
) -> None:
    if error := problems.get((figure.name, system)):
        console.print(f"  {system:26} {brief(error)}", style="red", highlight=False)
        return
    last = table[system][-1]
    cells = ", ".join(f"{number(last[v.name], v)} {v.title}" for v in figure.values if v.name in last)
    console.print(f"  {system:26} {cells}", highlight=False)


def _about(servers: Servers, systems: Sequence[System], load_before: float) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "servers": servers.versions,
        "load_before": load_before,
        "load_after": os.getloadavg()[0],
        "systems": {system.name: {"versions": _versions(system), "settings": system.settings} for system in systems},
    }


def _versions(system: System) -> str:
    installed = venvs.versions(system.environment)
    names = [system.peer, *(name for name in DRIVER_PACKAGES if name in installed and name != system.peer)]
    return ", ".join(f"{name} {installed.get(name, '?')}" for name in names)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
