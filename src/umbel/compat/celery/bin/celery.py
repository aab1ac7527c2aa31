"""``celery.bin.celery``: the command line, in which ``celery`` means Umbel."""

import os

from umbel.cli import AS_CELERY
from umbel.cli import main as run
from umbel.cli import umbel as celery

__all__ = ["celery", "main"]


def main() -> None:
    """``umbel --as-celery`` with the arguments of this process."""
    os.environ[AS_CELERY] = "1"
    run()
