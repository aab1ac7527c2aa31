"""How a task in a greenlet is interrupted: an exception is thrown into it from the library's hub, while it waits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from umbel.errors import SoftTimeLimitExceeded
from umbel.guarding import Guard, TaskEnded

Cancel = Callable[[], object]
CallInHub = Callable[[float, Callable[[], object]], Cancel]
"""``(seconds, function)``: have the hub call a function later; returns what prevents it."""


class GreenGuard(Guard):
    """Of one lane. A greenlet that never waits is not interrupted: nobody else has a turn."""

    def __init__(self, current: Callable[[], Any], call_in_hub: CallInHub) -> None:
        """``current``: the greenlet that runs."""
        super().__init__()
        self._current = current
        self._call_in_hub = call_in_hub
        self._greenlet: Any = None

    def call(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if self.ended:
            raise TaskEnded
        cancel = None if self.soft is None else self._call_in_hub(self.soft, self._on_soft_limit)
        self._greenlet = self._current()
        try:
            value = function(*args, **kwargs)
        except BaseException:
            if self.ended:
                raise TaskEnded from None
            raise
        finally:
            self._greenlet = None
            if cancel is not None:
                cancel()
        if self.ended:
            raise TaskEnded
        return value

    def end(self, number: int) -> None:
        if number == self.number:
            self._call_in_hub(0.0, lambda: self._end(number))

    def _end(self, number: int) -> None:
        if number != self.number or self.ended:
            return
        self.ended = True
        if self._greenlet is not None:
            self._greenlet.throw(TaskEnded)
        elif self._cancel is not None:
            self._cancel()

    def _on_soft_limit(self) -> None:
        if self._greenlet is not None:
            self._greenlet.throw(SoftTimeLimitExceeded)
