"""Waits for the harness to end, then ends what it left: `python -m benchmarks.reaper MARK DIRECTORY`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from benchmarks.processes import MARK, end, marked, remove_tree


def main() -> None:
    mark, directory = sys.argv[1], Path(sys.argv[2])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    end(marked(MARK, mark), grace=3.0)
    end(marked(MARK, mark), grace=0.0)
    remove_tree(directory)


if __name__ == "__main__":
    main()
