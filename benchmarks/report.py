"""The report: tables on the terminal, and `docs/performance.md` from the file that `--json` wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.budgets import BEST_PEER, Results, Verdict, best_peer, judge, median
from benchmarks.figures import BARE, FIGURES, Figure, Value
from benchmarks.processes import ROOT, BenchmarkError
from benchmarks.registry import peer_of

PAGE = ROOT / "docs" / "performance.md"
BEGIN = "<!-- begin: written by `python -m benchmarks --write-docs` -->"
END = "<!-- end -->"
WORDS = {True: "pass", False: "FAIL", None: "not measured"}


def header(figure: Figure) -> list[str]:
    main = figure.values[0].title
    return ["system", *(v.title for v in figure.values), f"{main}: × Celery", f"{main}: × best peer", "runs"]


def rows(figure: Figure, results: Results) -> list[list[str]]:
    """The figure's table, best first, and redis-py alone at the end."""
    main = figure.values[0]
    measured = [s for s in results[figure.name] if median(results, figure.name, s, main.name) is not None]

    def order(system: str) -> tuple[bool, float]:
        value = median(results, figure.name, system, main.name) or 0.0
        return system == BARE, -value if main.higher_is_better else value

    return [_row(figure, results, system) for system in sorted(measured, key=order)]


def _row(figure: Figure, results: Results, system: str) -> list[str]:
    main = figure.values[0]
    own = median(results, figure.name, system, main.name)
    celery_system = next((s for s in results[figure.name] if peer_of(s) == "celery"), "")
    celery = median(results, figure.name, celery_system, main.name)
    best = best_peer(results, figure.name, main.name, main.higher_is_better)
    cells = [system]
    for value in figure.values:
        found = median(results, figure.name, system, value.name)
        cells.append("–" if found is None else number(found, value))
    cells.append(_ratio(own, celery))
    cells.append(_ratio(own, best[1] if best else None))
    runs = results[figure.name][system]
    values = [run[main.name] for run in runs]
    cells.append(f"{len(runs)} ({number(min(values), main)} to {number(max(values), main)})")
    return cells


def number(value: float, column: Value) -> str:
    return f"{value:,.{column.digits}f}"


def _ratio(value: float | None, other: float | None) -> str:
    return "–" if value is None or not other else f"{value / other:,.2f}"


def verdict_cells(verdict: Verdict) -> list[str]:
    title = next(f.title for f in FIGURES if f.name == verdict.budget.figure)
    against = f" ({verdict.against})" if verdict.budget.against == BEST_PEER and verdict.against else ""
    measured = "–" if verdict.measured is None else f"{verdict.measured:,.3g}{against}"
    if verdict.measured is not None and verdict.measured >= 1000:
        measured = f"{verdict.measured:,.0f}{against}"
    return [title, verdict.demand, measured, WORDS[verdict.passed]]


VERDICT_HEADER = ["figure", "must reach", "measured", "result"]


def brief(error: str) -> str:
    """First and last line of an error that carries the tail of a log."""
    lines = [line for line in error.splitlines() if line.strip()]
    return lines[0] if len(lines) < 2 else f"{lines[0]} {lines[-1].strip()}"


def show(report: dict[str, Any], console: Console) -> None:
    """Print all tables, what could not be measured, and the verdicts."""
    results: Results = report["figures"]
    for figure in FIGURES:
        if results.get(figure.name):
            _print_table(console, figure.title, header(figure), rows(figure, results))
    for problem in report["problems"]:
        console.print(
            f"[red]{problem['figure']}, {problem['system']}:[/red] {brief(problem['error'])}", highlight=False
        )
    table = Table("figure", "must reach", "measured", "result", title="Budgets", title_justify="left")
    for verdict in judge(results):
        style = {True: "green", False: "bold red", None: "dim"}[verdict.passed]
        table.add_row(*verdict_cells(verdict), style=style)
    console.print(table)


def _print_table(console: Console, title: str, columns: Sequence[str], lines: list[list[str]]) -> None:
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for line in lines:
        table.add_row(*line, style="bold" if peer_of(line[0]) == "umbel" else "")
    console.print(table)


def write_docs(report: dict[str, Any]) -> Path:
    """Put the report's tables between the two marks of `docs/performance.md`; raises BenchmarkError without them."""
    page = PAGE.read_text()
    before, found, rest = page.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not found or not found_end:
        raise BenchmarkError(f"{PAGE} lacks the marks between which the tables go")
    PAGE.write_text(f"{before}{BEGIN}\n\n{_markdown(report)}\n{END}{after}")
    return PAGE


def _markdown(report: dict[str, Any]) -> str:
    results: Results = report["figures"]
    about = report["about"]
    facts = [
        ("date", about["date"]),
        ("command", f"`{about['command']}`"),
        ("machine", f"{about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB"),
        ("system", f"{about['system']}, Python {about['python']}"),
        ("servers", "; ".join(f"{name} {version}" for name, version in about["servers"].items())),
        ("load before and after", f"{about['load_before']:.2f}, {about['load_after']:.2f}"),
    ]
    parts = ["## The run", "", *_table(["", ""], [list(fact) for fact in facts]), ""]
    parts += ["### What was measured", ""]
    systems = [[name, entry["versions"], entry["settings"]] for name, entry in about["systems"].items()]
    parts += [*_table(["system", "versions", "worker"], systems), "", "## Budgets", ""]
    parts += [*_table(VERDICT_HEADER, [verdict_cells(v) for v in judge(results)]), "", "## Figures", ""]
    for figure in FIGURES:
        if results.get(figure.name):
            parts += [f"### {figure.title}", "", *_table(header(figure), rows(figure, results)), ""]
    if report["problems"]:
        parts += ["### Not measured", ""]
        for problem in report["problems"]:
            parts.append(f"- {problem['figure']}, {problem['system']}: {brief(problem['error'])}")
        parts.append("")
    return "\n".join(parts)


def _table(columns: list[str], lines: list[list[str]]) -> list[str]:
    rule = ["---" if index == 0 else "---:" for index in range(len(columns))]
    if columns[-1] in ("", "worker"):
        rule = ["---"] * len(columns)
    return ["| " + " | ".join(cells) + " |" for cells in [columns, rule, *lines]]
