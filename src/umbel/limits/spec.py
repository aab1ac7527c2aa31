"""How a rate is written: ``"100/m"``, ``"0.5/s"``, ``"10"``, 10."""

from __future__ import annotations

import math
from typing import Any

from umbel.errors import ConfigurationError

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_rate(value: Any, of: str) -> float:
    """Tasks per second; 0 for no limit: None and zero in any form.

    A number is meant per second, text may name the unit: ``/s``, ``/m`` or ``/h``. ``of`` says in errors whose rate it
    is. Raises ConfigurationError.
    """
    if value is None:
        return 0.0
    count, slash, unit = value.partition("/") if isinstance(value, str) else (value, "", "")
    seconds = _SECONDS.get(unit.strip() if slash else "s")
    try:
        number = math.nan if isinstance(value, bool) else float(count)
    except (TypeError, ValueError):
        number = math.nan
    if seconds is None or not math.isfinite(number) or number < 0:
        raise ConfigurationError(
            f"{of}: {value!r} is no rate limit; write a number per second, or '100/s', '100/m' or '100/h', 0 for none"
        )
    return number / seconds
