"""How long tasks take: a running mean for each task name, by which the worker decides how much work to hold."""

from __future__ import annotations

SHORTEST = 100e-6
"""Seconds that the shortest task costs a lane, its way through the worker included."""


class Durations:
    """Exponentially weighted running means (weight 1/8, as TCP's round-trip estimate, RFC 6298), in seconds."""

    _WEIGHT = 1 / 8

    def __init__(self, unknown: float) -> None:
        """``unknown``: what is assumed of a task that has not run yet."""
        self.unknown = unknown
        self._means: dict[str, float] = {}
        self.overall = unknown
        """The mean over all tasks as they come."""

    def estimate(self, task: str) -> float:
        return self._means.get(task, self.unknown)

    def observe(self, task: str, seconds: float) -> None:
        seconds = max(seconds, SHORTEST)
        mean = self._means.get(task)
        self._means[task] = seconds if mean is None else mean + (seconds - mean) * self._WEIGHT
        self.overall += (seconds - self.overall) * self._WEIGHT
