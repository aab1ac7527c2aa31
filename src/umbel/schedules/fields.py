"""Patterns of one field of a ``crontab``: ``*``, ``*/5``, ``1,15``, ``mon-fri``, ``22-2``, ``8-18/2``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, ClassVar, TypeAlias, cast

from umbel.errors import UmbelError

Cronspec: TypeAlias = "int | str | Iterable[int]"

DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip

_PART = re.compile(r"(?:(?P<star>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?)(?P<slash>/(?P<step>\w*))?")


class ParseException(UmbelError, ValueError):
    """What a schedule is made of cannot be read, or it would never run."""

    wire_module = "celery.schedules"


def weekday(name: str) -> int:
    """Number of a day of the week by its English name or the first three letters of it or more: 0 is Sunday.

    Raises KeyError for anything else.
    """
    return _position(DAYS, name)


def month(name: str) -> int:
    """Number of a month, from 1 on, by its English name or the first three letters of it or more. Raises KeyError."""
    return _position(MONTHS, name) + 1


def _position(names: tuple[str, ...], name: str) -> int:
    lower = name.lower()
    for at, full in enumerate(names):
        if len(lower) >= 3 and full.startswith(lower):
            return at
    raise KeyError(name)


class crontab_parser:
    """Reads the patterns of a field that has ``max_`` values from ``min_`` on.

    A pattern is a list of parts with commas between them, each a number, a range ``a-b`` (which may go over the end and
    begin again), or ``*`` for all; a range and ``*`` may have a step ``/n``. Days of the week and months may be named.
    """

    ParseException: ClassVar[type[ParseException]] = ParseException

    def __init__(self, max_: int = 60, min_: int = 0) -> None:
        self.max_ = max_
        self.min_ = min_

    def parse(self, spec: str) -> set[int]:
        """The values that ``spec`` stands for. Raises ParseException."""
        found: set[int] = set()
        for part in spec.split(","):
            found.update(self._part(part.strip(), spec))
        return found

    def _part(self, part: str, spec: str) -> Iterable[int]:
        read = _PART.fullmatch(part)
        if read is None:
            raise ParseException(self._wrong(spec, "has an empty part" if not part else f"{part!r} is no part of one"))
        end = self.min_ + self.max_
        if read["star"]:
            values = list(range(self.min_, end))
        else:
            first = self._number(read["first"], spec)
            if read["last"] is None:
                if read["slash"]:
                    raise ParseException(
                        self._wrong(spec, f"{part!r} has a step but no range; write {first}-{end - 1}")
                    )
                return [first]
            last = self._number(read["last"], spec)
            around = last < first
            values = [*range(first, end), *range(self.min_, last + 1)] if around else list(range(first, last + 1))
        return values[:: self._step(read["step"], spec)] if read["slash"] else values

    def _step(self, text: str, spec: str) -> int:
        if not text.isdecimal() or int(text) == 0:
            raise ParseException(self._wrong(spec, f"the step after / is a number from 1 on, not {text!r}"))
        return int(text)

    def _number(self, text: str, spec: str) -> int:
        if text.isdecimal():
            number = int(text)
        else:
            try:
                number = month(text) if self.min_ else weekday(text)
            except KeyError:
                raise ParseException(self._wrong(spec, f"{text!r} is neither a number nor a name")) from None
        if not self.min_ <= number < self.min_ + self.max_:
            raise ParseException(self._wrong(spec, f"{number} is not from {self.min_} to {self.min_ + self.max_ - 1}"))
        return number

    def _wrong(self, spec: str, why: str) -> str:
        return f"{spec!r} is no pattern of a crontab: {why}"


def expand(cronspec: Cronspec, max_: int, min_: int, field: str) -> set[int]:
    """The values that the argument ``field`` of a crontab stands for.

    Raises ParseException for values out of range, TypeError for what is neither a number, a text nor several numbers.
    """
    try:
        if isinstance(cronspec, str):
            return crontab_parser(max_, min_).parse(cronspec)
        if isinstance(cronspec, int):
            values = {cronspec}
        elif isinstance(cast("Any", cronspec), Iterable):
            values = set(cronspec)
        else:
            raise TypeError(f"{field} of a crontab is a number, a text or several numbers, not {cronspec!r}")
        if not values:
            raise ParseException("there is no value")
        for value in values:
            if not isinstance(cast("Any", value), int):
                raise TypeError(f"{field} of a crontab has {value!r}, which is no whole number")
            if not min_ <= value < min_ + max_:
                raise ParseException(f"{value} is not from {min_} to {min_ + max_ - 1}")
    except ParseException as error:
        raise ParseException(f"{field} of a crontab: {error}") from None
    return values
