"""In which order the servers of a broker are tried, where it has several: ``broker_failover_strategy``."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, cast

from umbel.config.loading import load_object
from umbel.errors import ConfigurationError

Strategy = Callable[[list[str]], Iterable[str]]

_DRAWS = 100


def in_order(urls: Sequence[str], strategy: str | Callable[..., Any] | None) -> list[str]:
    """``urls`` in the order in which this process tries them, and then again from the first.

    ``strategy``: ``round-robin`` (None as well) keeps the order, ``shuffle`` gives each process one of its own; a
    function, or its dotted name, gets the list and returns an iterator, endless or not, as Celery's do. What it leaves
    out comes last. Raises ConfigurationError for a name that is none of these, and for addresses that were not given.
    """
    given = list(urls)
    if strategy is None or strategy == "round-robin":
        return given
    if strategy == "shuffle":
        return random.sample(given, len(given))
    function: Any = load_object(strategy) if isinstance(strategy, str) else strategy
    if not callable(function):
        raise ConfigurationError(
            f"broker_failover_strategy must be 'round-robin', 'shuffle' or a function, not {strategy!r}"
        )
    order: Iterable[str] = cast("Strategy", function)(list(given))
    drawn = list(dict.fromkeys(islice(order, _DRAWS * len(given))))
    if unknown := [url for url in drawn if url not in given]:
        raise ConfigurationError(f"broker_failover_strategy returned {len(unknown)} addresses that were not given")
    return drawn + [url for url in given if url not in drawn]
