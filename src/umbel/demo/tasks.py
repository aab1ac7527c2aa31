"""The application of ``umbel demo``: tasks that count words and make pictures."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.resources
import re
from collections import Counter
from pathlib import Path
from typing import Any

from umbel.app import Umbel
from umbel.demo import pictures

app = Umbel("demo", set_as_current=False)

_WORD = re.compile(r"[a-z]+(?:['’-][a-z]+)*")


class PrinterBusy(ConnectionError):
    """The printer does not answer, this time."""


def text_names() -> list[str]:
    """The names of the texts that come with the demo."""
    directory = importlib.resources.files("umbel.demo") / "texts"
    return sorted(entry.name for entry in directory.iterdir() if entry.name.endswith(".txt"))


def read_text(name: str) -> str:
    return (importlib.resources.files("umbel.demo") / "texts" / name).read_text(encoding="utf-8")


def words_of(text: str) -> list[str]:
    return _WORD.findall(text.lower())


@app.task
def count_words(name: str) -> dict[str, int]:
    """How often each word is in a text."""
    return dict(Counter(words_of(read_text(name))))


@app.task
def most_frequent(counts: list[dict[str, int]], number: int) -> list[tuple[str, int]]:
    """The most frequent words of seven letters or more in all texts together."""
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return Counter({word: times for word, times in total.items() if len(word) > 6}).most_common(number)


@app.task
def longest_word(line: str) -> str:
    """The longest word of a line: a task that takes next to no time."""
    return max(words_of(line), key=len, default="")


@app.task(bind=True)
def paint(self: Any, number: int, path: str, width: int, height: int) -> int:
    """Paint a picture into a PNG file, telling how far it is; the file's size in bytes."""
    picture = pictures.paint(number, width, height, lambda done: done % 40 or self.progress(done, height))
    return pictures.write_png(Path(path), picture)


@app.task
def thumbnail(source: str, target: str, factor: int) -> int:
    """Shrink a picture; the size of the new file in bytes."""
    return pictures.write_png(Path(target), pictures.shrink(pictures.read_png(Path(source)), factor))


@app.task
def contact_sheet(sources: list[str], target: str, columns: int) -> int:
    """Put thumbnails side by side; the size of the file in bytes."""
    tiles = [pictures.read_png(Path(source)) for source in sources]
    return pictures.write_png(Path(target), pictures.side_by_side(tiles, columns))


@app.task
async def checksums(paths: list[str]) -> dict[str, str]:
    """SHA-256 of files, read concurrently."""

    async def checksum(path: str) -> str:
        return hashlib.sha256(await asyncio.to_thread(Path(path).read_bytes)).hexdigest()

    sums = await asyncio.gather(*(checksum(path) for path in paths))
    return {Path(path).name: found for path, found in zip(paths, sums, strict=True)}


@app.task(bind=True, autoretry_for=(PrinterBusy,), max_retries=5, retry_backoff=0.2, retry_jitter=False)
def print_sheet(self: Any, path: str) -> str:
    """Fails twice, as a printer does; retried after 0.2 s, then after 0.4 s."""
    if self.request.retries < 2:
        raise PrinterBusy(f"the printer is busy (attempt {self.request.retries + 1})")
    return f"printed {Path(path).name} at attempt {self.request.retries + 1}"
