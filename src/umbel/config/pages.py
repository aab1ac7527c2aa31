"""Pages of the documentation that are written from the code: the command line that writes one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path


def write_page(module: str, what: str, page: Callable[[], str]) -> None:
    """``python -m MODULE [FILE]``: write ``page()`` to FILE, or to standard output."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=f"Write {what} as Markdown.")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="default: standard output")
    file: Path | None = parser.parse_args().file
    if file is None:
        sys.stdout.write(page())
    else:
        file.write_text(page(), encoding="utf-8")
