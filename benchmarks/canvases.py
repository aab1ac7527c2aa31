"""Figures of groups, chords and chains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.session import Session, open_session

if TYPE_CHECKING:
    from benchmarks.figures import Bench, Values
    from benchmarks.registry import System

GROUP = 10_000
CHORD = 1_000
LINKS = 1_000

LARGE = {
    "chain": {"links": 10_000},
    "group": {"count": 100_000},
    "chord": {"count": 10_000},
    "nested": {"depth": 6, "width": 10},
}
"""Canvases that must be possible at all, each by its arguments."""


def group(bench: Bench, system: System) -> Values:
    """No worker runs, as in the bulk figure."""
    with open_session(bench.scope, bench.servers, system, "group") as session:
        _ask(session, "send_group", count=100)
        seconds = _ask(session, "send_group", count=GROUP)
    return {"rate": GROUP / seconds}


def chord(bench: Bench, system: System) -> Values:
    """In turns on one warm worker, best of three: a span of a tenth of a second is soon disturbed."""
    with open_session(bench.scope, bench.servers, system, "chord") as session:
        session.start_warm_worker()
        for what in ("singles", "chord"):
            _ask(session, what, count=100)
        spans = [[_ask(session, what, count=CHORD) for what in ("singles", "chord")] for _ in range(3)]
    singles, whole = (min(each) for each in zip(*spans, strict=True))
    return {"ratio": whole / singles, "chord": whole, "singles": singles}


def chain(bench: Bench, system: System) -> Values:
    with open_session(bench.scope, bench.servers, system, "chain") as session:
        session.start_warm_worker()
        _ask(session, "chain", links=20)
        seconds = _ask(session, "chain", links=LINKS)
    return {"rate": LINKS / seconds, "milliseconds": seconds / LINKS * 1000}


def large(bench: Bench, system: System) -> Values:
    """Each in a client of its own, whose memory is that of the canvas."""
    found: Values = {}
    for what, size in LARGE.items():
        with open_session(bench.scope, bench.servers, system, "large") as session:
            session.start_warm_worker()
            before = _ask(session, "peak")
            found[what] = _ask(session, what, **size)
            found[f"{what}_memory"] = _ask(session, "peak") - before
    return found


def _ask(session: Session, what: str, **arguments: int) -> float:
    return session.client.ask("canvas", what=what, **arguments)
