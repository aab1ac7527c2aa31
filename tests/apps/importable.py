"""An application that a new interpreter can import by its name."""

from __future__ import annotations

import os

from umbel import Umbel

app = Umbel("importable", set_as_current=False)


@app.task
def where(number: int) -> tuple[int, int]:
    """The number and the process."""
    return number, os.getpid()
