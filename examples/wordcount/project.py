"""Counts words in files. Counting and summing up go to queues of their own."""

from collections import Counter
from pathlib import Path
from typing import Any

from umbel import Umbel

app = Umbel(
    "project",
    task_queues=["count", "sum"],
    task_default_queue="count",
    task_routes={"project.total": "sum"},
)


@app.task(bind=True, autoretry_for=(OSError,), retry_backoff=1, max_retries=3)
def count(self: Any, path: str) -> dict[str, int]:
    """Words of one file. An unreadable file is tried again after up to 1, 2 and 4 seconds, then the task fails."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    words: Counter[str] = Counter()
    for number, line in enumerate(lines, 1):
        words.update(line.lower().split())
        if number % 1000 == 0:
            self.progress(number, len(lines))
    return dict(words)


@app.task
def total(counts: list[dict[str, int]]) -> list[tuple[str, int]]:
    """The ten most frequent words of all files together."""
    words: Counter[str] = Counter()
    for each in counts:
        words.update(each)
    return words.most_common(10)
