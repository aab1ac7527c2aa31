"""The soak: `python -m benchmarks.soak` runs 500,000 tasks, every twentieth of which fails, through one worker.

It fails when supervisor, nursery or executors grow: resident memory and open files, of each kind of process together,
are compared between the first and the last quarter of the run after its warm-up. The same module is the application
that the worker runs.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

from benchmarks.processes import BenchmarkError, Scope
from benchmarks.servers import Servers
from umbel import Umbel
from umbel.result import AsyncResult

SHORT = 200_000
"""A run of fewer tasks is short."""
CHUNK = 4_000
FEWEST_QUEUED = 2_000
FAILS_EVERY = 20
WARM_UP = 0.3
LEAST_WARM_UP = 10_000
"""Share of the tasks, and number, after which growth counts."""
MOST_GROWTH = 0.02
LEAST_SEEN = 3.0
"""By so many MiB the memory of a supervisor differs from moment to moment, with the bursts it holds. A short run can
tell only what grows by more: of 60,000 tasks, 100 bytes each."""
COME_AND_GO = 3
"""By so many the supervisor's connections differ from moment to moment."""
ROLES = ("supervisor", "nursery", "executor")

URL = os.environ.get("SOAK_URL", "")
app = Umbel("soak", broker=URL, backend=URL, result_expires=60, set_as_current=False)


@app.task(name="soak.work")
def work(number: int) -> int:
    if number % FAILS_EVERY == 0:
        raise ValueError(f"no luck with {number}")
    return number


@dataclass(frozen=True)
class Sample:
    """At one moment, by role: mean resident MiB of its processes, mean number of their open files."""

    memory: dict[str, float]
    files: dict[str, float]


@dataclass
class Soak:
    """A run: what was seen of the worker after its warm-up."""

    tasks: int
    seconds: float = 0.0
    samples: list[Sample] = field(default_factory=list[Sample])
    executors: set[int] = field(default_factory=set[int])

    def quarters(self, role: str, what: str) -> list[float]:
        """The medians of the four quarters of the run."""
        values: list[float] = [getattr(sample, what)[role] for sample in self.samples]
        if len(values) < 4:
            raise BenchmarkError("the run was over before the worker could be watched")
        size = len(values) // 4
        return [statistics.median(values[part * size : (part + 1) * size]) for part in range(4)]


def sample(supervisor: psutil.Process) -> tuple[Sample, set[int]] | None:
    """What the worker uses now, and its executors; None when there are none, or one ended meanwhile."""
    with suppress(psutil.NoSuchProcess):
        (nursery,) = supervisor.children()
        executors = nursery.children()
        if not executors:
            return None
        groups = dict(zip(ROLES, ([supervisor], [nursery], executors), strict=True))
        memory = {role: statistics.mean(p.memory_info().rss / 2**20 for p in group) for role, group in groups.items()}
        files = {role: statistics.mean(p.num_fds() for p in group) for role, group in groups.items()}
        return Sample(memory, files), {process.pid for process in executors}
    return None


def run(scope: Scope, url: str, tasks: int, options: Sequence[str]) -> Soak:
    """Send the tasks, no more than a few thousand ahead, and watch the worker; raises BenchmarkError when it fails."""
    command = [sys.executable, "-m", "umbel", "-A", "benchmarks.soak", "worker", "--quiet", "-l", "ERROR", *options]
    worker = scope.spawn(command, "soak.log", {"SOAK_URL": url})
    app.conf.broker_url = app.conf.result_backend = url
    soak, supervisor = Soak(tasks), psutil.Process(worker.pid)
    started = time.monotonic()
    for start in range(0, tasks, CHUNK):
        sent = app.send_many([work.s(number) for number in range(start, min(start + CHUNK, tasks))])
        last = start + CHUNK >= tasks
        while (size := app.broker.size("celery")) and size.ready + size.held > (0 if last else FEWEST_QUEUED):
            if worker.poll() is not None:
                raise BenchmarkError(f"the worker ended with {worker.returncode}:\n{scope.log_tail('soak.log')}")
            if start >= max(LEAST_WARM_UP, WARM_UP * tasks) and (seen := sample(supervisor)):
                soak.samples.append(seen[0])
                soak.executors |= seen[1]
            time.sleep(0.02)
        if last:
            _check(start, sent)
    soak.seconds = time.monotonic() - started
    _stop(worker, supervisor)
    return soak


def _check(first: int, results: Sequence[AsyncResult[int]]) -> None:
    """Raises BenchmarkError unless every twentieth failed and the others returned what they should."""
    for number, result in enumerate(results, first):
        expected = ("FAILURE", None) if number % FAILS_EVERY == 0 else ("SUCCESS", number)
        found = result.state, result.result if result.state == "SUCCESS" else None
        if found != expected:
            raise BenchmarkError(f"task {number} came to {found}, not to {expected}")


def _stop(worker: subprocess.Popen[bytes], supervisor: psutil.Process) -> None:
    """Raises BenchmarkError when the worker does not end well, or something of it remains."""
    tree = [supervisor, *supervisor.children(recursive=True)]
    worker.send_signal(signal.SIGTERM)
    if code := worker.wait(30):
        raise BenchmarkError(f"the worker ended with {code}")
    _, alive = psutil.wait_procs(tree, timeout=5)
    if alive:
        raise BenchmarkError(f"processes of the worker remain: {alive}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--tasks", type=int, default=500_000, metavar="N")
    parser.add_argument("--broker", default="", metavar="URL", help="an empty Redis database; default: one of its own")
    parser.add_argument("options", nargs="*", help="of the worker, after --; default: --concurrency 2")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options: list[str] = arguments.options or ["--concurrency", "2"]
    with Scope() as scope:
        try:
            soak = run(scope, arguments.broker or Servers(scope).redis_url(0), arguments.tasks, options)
        except BenchmarkError as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            app.close()
    return _show(soak, options)


def _show(soak: Soak, options: Sequence[str]) -> int:
    """Print the medians of the quarters; returns 1 where something has grown."""
    print(
        f"{soak.tasks:,} tasks in {soak.seconds:.0f} s ({soak.tasks / soak.seconds:,.0f}/s), {len(soak.samples)} looks "
        f"at the worker, {len(soak.executors)} executors seen; worker {' '.join(options)}"
    )
    grown = False
    for role in ROLES:
        for what, unit in (("memory", "MiB"), ("files", "open files")):
            quarters = soak.quarters(role, what)
            growth = quarters[-1] - quarters[0]
            most = quarters[0] * MOST_GROWTH
            if what == "memory" and soak.tasks < SHORT:
                most = max(most, LEAST_SEEN)
            elif what == "files" and role == "supervisor":
                most = max(most, COME_AND_GO)
            flat = growth <= most
            grown |= not flat
            shown = " ".join(f"{value:7.2f}" for value in quarters)
            print(f"  {role:10} {shown} {unit:10} {growth / quarters[0]:+6.1%}  {'flat' if flat else 'GROWS'}")
    return int(grown)


if __name__ == "__main__":
    sys.exit(main())
