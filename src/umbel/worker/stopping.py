"""How a worker ends, and with which exit codes."""

from __future__ import annotations

import enum

EXIT_FAILURE = 70
"""Something that the worker cannot do without was lost."""

EXIT_STALLED = 75
"""Work waited, nothing was claimed, and a new link did not help."""


class Shutdown(enum.IntEnum):
    """How the worker ends; a later request may only be colder."""

    WARM = 1
    """Running tasks finish, for at most the grace time; everything else is given back now."""
    SOFT = 2
    """Running tasks get ``worker_soft_shutdown_timeout`` seconds, then they are killed and given back."""
    COLD = 3
    """Running tasks are killed and given back now."""
