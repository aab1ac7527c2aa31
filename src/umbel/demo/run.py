"""The run of the demo: stage after stage of real tasks, sent to a worker of its own, waited for and checked."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from umbel.demo import tasks
from umbel.demo.node import WorkerNode, processors
from umbel.errors import ConfigurationError, UmbelError
from umbel.message import new_id
from umbel.urls import normalise, redact, scheme_of

if TYPE_CHECKING:
    from umbel.backends.base import Meta
    from umbel.demo.display import Display
    from umbel.result import AsyncResult

PICTURES = 8
WIDTH, HEIGHT = 240, 160
FACTOR = 4
_SLICE = 0.25
_LONGEST_STAGE = 60.0


class DemoFailed(UmbelError):
    """A task of the demo did not end as it should."""


class Summary(Struct):
    """What the demo did. ``seconds`` is the time from the first task sent to the last result."""

    tasks: int = 0
    retries: int = 0
    seconds: float = 0.0


def run_demo(display: Display, broker: str | None, backend: str | None, keep: bool) -> Summary:
    """Run it all; nothing is left behind but, with ``keep``, the directory of its files.

    ``broker``: None for SQLite in that directory. ``backend``: None for the natural one of the broker. Raises
    UmbelError when anything went wrong, KeyboardInterrupt on ctrl-C, SIGTERM and SIGHUP, each after cleaning up; once
    interrupted, this process ignores these signals until it ends.
    """
    with contextlib.ExitStack() as cleanup:
        disarm = cleanup.enter_context(_ending_signals())
        directory = Path(tempfile.mkdtemp(prefix="umbel-demo-"))
        if keep:
            cleanup.callback(display.say, f"kept: {directory}")
        else:
            cleanup.callback(shutil.rmtree, directory)
        broker = normalise(broker) if broker else f"sqlite:///{directory / 'umbel.sqlite'}"
        backend = backend or _backend_of(broker)
        run = _Run(display, directory, f"umbel-demo-{new_id()[:8]}", broker, backend)
        try:
            try:
                run.everything()
            finally:
                disarm()  # Whoever interrupts until here is followed by clean_up(), which nobody interrupts.
        finally:
            in_order = run.clean_up()
        if not in_order:
            raise DemoFailed("the worker did not end by itself within its time")
    return run.summary


def _backend_of(broker: str) -> str:
    if scheme_of(broker) == "memory":
        raise ConfigurationError("memory:// lives in one process, the demo's worker is another one")
    return "rpc://" if scheme_of(broker).startswith("amqp") else broker


_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def _ending_signals() -> Generator[Callable[[], None]]:
    """The first of the signals that ask to end raises KeyboardInterrupt, unless the function that this yields was
    called before; nobody hears those that follow, after the block neither when it was interrupted."""
    armed, interrupted = True, False

    def disarm() -> None:
        nonlocal armed
        armed = False

    def interrupt(number: int, frame: object) -> None:
        nonlocal interrupted
        if armed:
            disarm()
            interrupted = True
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _ENDING}
    try:
        yield disarm
        if interrupted:
            raise KeyboardInterrupt  # it was raised where errors are only reported, in a finalizer for example
    finally:
        for number, previous in before.items():
            signal.signal(number, signal.SIG_IGN if interrupted else previous)


class _Run:
    """One run of the demo. ``directory`` takes its files, ``queue`` is a queue of its own."""

    def __init__(self, display: Display, directory: Path, queue: str, broker: str, backend: str) -> None:
        self.display = display
        self.directory = directory
        self.queue = queue
        self.summary = Summary()
        self.app = tasks.app
        self.app.conf.assign({"broker_url": broker, "result_backend": backend}, "umbel demo")
        self.app.conf.assign({"task_default_queue": queue, "task_always_eager": False}, "umbel demo")
        self._backend = backend
        self.worker: WorkerNode | None = None
        self._sent: list[str] = []

    def everything(self) -> None:
        count = processors()
        self.app.broker.size(self.queue)
        self.worker = WorkerNode(self.app.broker.url, self._backend, self.queue, count, self._log)
        self.display.say(f"broker   {redact(self.app.broker.url)}")
        self.display.say(f"results  {redact(self.app.backend.url)}")
        began = time.monotonic()
        self.worker.wait_ready(_LONGEST_STAGE)
        processes = "process" if count == 1 else "processes"
        self.display.say(
            f"worker   pid {self.worker.pid}, {count} executor {processes}, ready in {time.monotonic() - began:.1f} s"
        )
        began = time.monotonic()
        self._count_words()
        self._longest_words()
        self._make_pictures()
        self._check_and_print()
        self.summary.seconds = time.monotonic() - began

    @property
    def _log(self) -> Path:
        return self.directory / "worker.log"

    # -- the stages --

    def _count_words(self) -> None:
        names = tasks.text_names()
        self.display.begin("count words, a task per text", len(names))
        counts = self._wait([tasks.count_words.delay(name) for name in names])
        total = sum(sum(count.values()) for count in counts)
        _expect(total == sum(len(tasks.words_of(tasks.read_text(name))) for name in names), "words were miscounted")
        self.display.end(f"{total:,} words in {len(names)} texts")
        self.display.begin("most frequent words, one task", 1)
        (top,) = self._wait([tasks.most_frequent.delay(counts, 5)])
        self.display.end(", ".join(f"{word} {times}" for word, times in top))

    def _longest_words(self) -> None:
        lines = [line for name in tasks.text_names() for line in tasks.read_text(name).splitlines() if line.strip()]
        lines *= 5
        self.display.begin("a task per line, sent in bulk", len(lines))
        results = self.app.send_many([tasks.longest_word.s(line) for line in lines])
        longest = max(self._wait(list(results)), key=len)
        _expect(longest == max((max(tasks.words_of(line), key=len) for line in lines), key=len), "a wrong longest word")
        self.display.end(f"the longest word is “{longest}”")

    def _make_pictures(self) -> None:
        originals = [str(self.directory / f"picture-{number}.png") for number in range(PICTURES)]
        self.display.begin("paint pictures", PICTURES)
        sizes = self._wait([tasks.paint.delay(number, path, WIDTH, HEIGHT) for number, path in enumerate(originals)])
        self.display.end(f"{PICTURES} × {WIDTH}×{HEIGHT}, {sum(sizes) // 1024:,} KiB")
        small = [path.replace("picture-", "thumbnail-") for path in originals]
        self.display.begin("shrink them to thumbnails", PICTURES)
        sizes = self._wait(
            [tasks.thumbnail.delay(path, target, FACTOR) for path, target in zip(originals, small, strict=True)]
        )
        self.display.end(f"{PICTURES} × {WIDTH // FACTOR}×{HEIGHT // FACTOR}, {sum(sizes) // 1024:,} KiB")
        self.display.begin("a contact sheet of them", 1)
        (size,) = self._wait([tasks.contact_sheet.delay(small, str(self._sheet), 4)])
        _expect(self._sheet.stat().st_size == size, "the contact sheet is incomplete")
        self.display.end(f"{self._sheet.name}, {size:,} bytes")

    @property
    def _sheet(self) -> Path:
        return self.directory / "contact-sheet.png"

    def _check_and_print(self) -> None:
        files = [str(path) for path in sorted(self.directory.glob("*.png"))]
        self.display.begin("checksums, one async task", 1)
        (sums,) = self._wait([tasks.checksums.delay(files)])
        _expect(len(sums) == len(files), "checksums are missing")
        self.display.end(f"{len(sums)} files, {self._sheet.name} is {sums[self._sheet.name][:12]}…")
        self.display.begin("print it: fails twice, is retried", 1)
        (printed,) = self._wait([tasks.print_sheet.delay(str(self._sheet))])
        _expect(printed.endswith("attempt 3"), f"the retried task says {printed!r}")
        self.summary.retries += 2
        self.display.end(printed)

    # -- waiting and cleaning --

    def _wait(self, results: Sequence[AsyncResult[Any]]) -> list[Any]:
        """The values in the order of ``results``; progress is shown meanwhile. Raises DemoFailed, WorkerDied."""
        self.summary.tasks += len(results)
        self._sent += [result.id for result in results]
        done: dict[str, Meta] = {}
        parts: dict[str, float] = {}
        deadline = time.monotonic() + _LONGEST_STAGE
        while waiting := [result.id for result in results if result.id not in done]:
            self.app.backend.wait(waiting, _SLICE, self._note(done, parts))
            self.display.advance(len(done) + sum(parts[task_id] for task_id in parts.keys() - done.keys()))
            if self.worker is not None:
                self.worker.check()
            if time.monotonic() > deadline:
                raise DemoFailed(f"{len(waiting)} tasks have not ended within {_LONGEST_STAGE:g} s")
        failed = [meta for meta in done.values() if meta.status != "SUCCESS"]
        if failed:
            raise DemoFailed(f"{len(failed)} tasks failed; the first:\n{failed[0].traceback or failed[0].result}")
        return [done[result.id].result for result in results]

    def _note(self, done: dict[str, Meta], parts: dict[str, float]) -> Callable[[Meta], None]:
        def on_meta(meta: Meta) -> None:
            if meta.ready:
                done[meta.task_id] = meta
                self.display.advance(len(done))
            elif meta.status == "PROGRESS":
                parts[meta.task_id] = meta.result["percent"] / 100

        return on_meta

    def clean_up(self) -> bool:
        """Stop the worker; take queue and results off the broker and the result store. Whether it stopped in order."""
        in_order = self.worker is None or self.worker.stop()
        try:
            if self._sent:
                self.app.backend.forget(self._sent)
            self.app.broker.delete(self.queue)
        finally:
            self.app.close()
        return in_order


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise DemoFailed(otherwise)
