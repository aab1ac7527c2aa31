"""When a task that waits under a limit is told to come again: times in seconds.

Tasks of a full limit stand in a line, in the order in which they first came. One that is far behind comes back after
half of the time that those in front of it will take, so that its passes through a worker grow with the logarithm of
the line's length. The few in front come soon after each other, at a fraction of the time that a task takes.
"""

from __future__ import annotations

SHORTEST, LONGEST = 0.05, 300.0
LONGEST_IN_FRONT = 5.0
FRACTION = 10.0
"""Those in front ask about so many times while one task runs."""
QUICKEST = 0.01
"""The least that a task is reckoned to take."""
WEIGHT = 0.2
"""Of the newest task in the mean of durations."""
FORGOTTEN = 60.0
"""Whoever is late by so much has left the line: revoked, expired, purged."""
LATE = 0.5
"""As long as anybody is late by more than this, places are kept for nobody: the line does not come back in its order,
since it is at the end of a long queue, and places would stay free until all of that has been seen."""
KEPT = 3600.0
"""A limit of which nothing was heard for so long is forgotten."""


def reckoned(mean: float | None, since_last: float, held: int) -> float:
    """How long a task will take: the mean of durations, or more when those that run take longer already.

    ``since_last``: since the last one was let in; ``held``: how many run.
    """
    return max(mean or 0.0, since_last if held else 0.0, QUICKEST)


def in_front(duration: float) -> float:
    """The pause of those in front."""
    return min(max(duration / FRACTION, SHORTEST), LONGEST_IN_FRONT)


def pause(rank: int, limit: int, duration: float) -> float:
    """The pause of the one that has ``rank`` others before it."""
    front = in_front(duration)
    if rank < limit + 2:
        return front * (1 + rank / (limit + 2))
    return min(max(duration / limit * (rank + 1) / 2, front), LONGEST)


def mean_with(mean: float | None, duration: float) -> float:
    """The mean of durations after one more."""
    return duration if mean is None else mean + WEIGHT * (duration - mean)
