"""What Umbel must reach, and whether it did: the budgets of the project's speed section."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import BARE, FIGURES
from benchmarks.registry import peer_of

BEST_PEER = "best peer"
Results = dict[str, dict[str, list[dict[str, float]]]]
"""figure → system → values of each run."""


@dataclass(frozen=True)
class Budget:
    """One demand: a value of Umbel's by itself, or divided by another system's."""

    figure: str
    value: str
    limit: float
    against: str = ""
    """"" for an absolute value, else a system, `BARE`, or `BEST_PEER`."""

    @property
    def higher_is_better(self) -> bool:
        figure = next(f for f in FIGURES if f.name == self.figure)
        return next(v for v in figure.values if v.name == self.value).higher_is_better


@dataclass(frozen=True)
class Verdict:
    """A budget beside what was measured; `measured` is None if one of the two sides was not."""

    budget: Budget
    demand: str
    measured: float | None
    against: str
    passed: bool | None


BUDGETS: tuple[Budget, ...] = (
    Budget("drain-redis", "rate", 40, "celery@redis"),
    Budget("drain-redis", "rate", 7, BEST_PEER),
    Budget("drain-redis", "cpu", 0.5),
    Budget("drain-postgresql", "rate", 1, BEST_PEER),
    Budget("drain-rabbitmq", "rate", 15, "celery@rabbitmq"),
    Budget("drain-rabbitmq", "rate", 4, "dramatiq@rabbitmq"),
    Budget("rpc", "rate", 3, "celery@rpc"),
    Budget("drain-sqlite", "rate", 4, "huey@sqlite"),
    Budget("delay", "rate", 1.5, BEST_PEER),
    Budget("delay", "rate", 0.5, BARE),
    Budget("bulk", "rate", 40_000),
    Budget("bulk", "rate", 4, BEST_PEER),
    Budget("latency", "p50", 1, BEST_PEER),
    Budget("roundtrip", "rate", 3, BEST_PEER),
    Budget("roundtrip", "rate", 0.4, BARE),
    Budget("idle", "pss", 45),
    Budget("idle", "cpu", 0.1),
    Budget("start", "seconds", 0.4),
    Budget("import", "milliseconds", 60),
    Budget("depth", "ratio", 0.9),
    Budget("sleep-asyncio", "rate", 8_500),
    Budget("sleep-asyncio", "rate", 2, BEST_PEER),
    Budget("sleep-threads", "rate", 2, BEST_PEER),
    Budget("sleep-gevent", "rate", 2, BEST_PEER),
    Budget("drain-async", "rate", 1, "umbel@redis"),
    Budget("mixed", "ratio", 1.3),
    Budget("replacement", "ratio", 0.6),
    Budget("rate", "error", 5),
    Budget("rate", "free", 0.9),
    Budget("group", "rate", 30_000),
    Budget("chord", "ratio", 1.3),
    Budget("chain", "rate", 20, "celery@redis"),
    Budget("chain", "milliseconds", 1.5),
)


def median(results: Results, figure: str, system: str, value: str) -> float | None:
    runs = [run[value] for run in results.get(figure, {}).get(system, []) if value in run]
    return statistics.median(runs) if runs else None


def best_peer(results: Results, figure: str, value: str, higher_is_better: bool) -> tuple[str, float] | None:
    """The peer with the best median, and that median."""
    medians: list[tuple[str, float]] = []
    for system in results.get(figure, {}):
        if peer_of(system) != "umbel" and system != BARE:
            found = median(results, figure, system, value)
            if found is not None:
                medians.append((system, found))
    if not medians:
        return None
    return (max if higher_is_better else min)(medians, key=lambda pair: pair[1])


def judge(results: Results) -> list[Verdict]:
    return [_judge(budget, results) for budget in BUDGETS if budget.figure in results]


def _judge(budget: Budget, results: Results) -> Verdict:
    figure = next(f for f in FIGURES if f.name == budget.figure)
    column = next(v for v in figure.values if v.name == budget.value)
    own = median(results, budget.figure, figure.own, budget.value)
    sign = "≥" if budget.higher_is_better else "≤"
    if not budget.against:
        demand = f"{sign} {budget.limit:,g} {column.title}"
        return Verdict(budget, demand, own, "", _passed(budget, own))
    rival = budget.against
    other = None
    if rival == BEST_PEER:
        if best := best_peer(results, budget.figure, budget.value, budget.higher_is_better):
            rival, other = best
    else:
        other = median(results, budget.figure, rival, budget.value)
    ratio = own / other if own is not None and other else None
    return Verdict(budget, f"{sign} {budget.limit:g} × {budget.against}", ratio, rival, _passed(budget, ratio))


def _passed(budget: Budget, measured: float | None) -> bool | None:
    if measured is None:
        return None
    return measured >= budget.limit if budget.higher_is_better else measured <= budget.limit


def as_json(verdicts: list[Verdict]) -> list[dict[str, Any]]:
    return [
        {
            "figure": v.budget.figure,
            "value": v.budget.value,
            "demand": v.demand,
            "measured": v.measured,
            "against": v.against,
            "passed": v.passed,
        }
        for v in verdicts
    ]
