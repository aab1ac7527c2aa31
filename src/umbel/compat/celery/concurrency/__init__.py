"""``celery.concurrency``: which pools there are. They are kinds of lanes, see ``umbel.executors.lanes``."""

from umbel.executors.lanes import ALIASES, BUILTIN
from umbel.executors.lanes import find_lanes as get_implementation

__all__ = ["get_available_pool_names", "get_implementation"]


def get_available_pool_names() -> tuple[str, ...]:
    """The names of pools that come with Umbel."""
    return (*BUILTIN, *ALIASES)
