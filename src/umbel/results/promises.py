"""What ``result.then`` gives: a call that is made when a result is there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Promise:
    """A call to come, and those that come after it; each is made once.

    ``ready``: it was made. ``failed``: it raised ``reason``. ``value``: what it returned.
    """

    def __init__(self, call: Callable[[Any], Any], on_error: Callable[[BaseException], object] | None = None) -> None:
        """``on_error`` gets what ``call`` raises, or what is thrown; without it that is raised where it comes up."""
        self.ready = False
        self.failed = False
        self.cancelled = False
        self.value: Any = None
        self.reason: BaseException | None = None
        self._call = call
        self._on_error = on_error
        self._after: list[Promise] = []
        self._begun = False
        self._guard = threading.Lock()
        self._when_cancelled: Callable[[], object] | None = None

    def then(
        self, callback: Callable[[Any], Any], on_error: Callable[[BaseException], object] | None = None
    ) -> Promise:
        """Have ``callback`` called with the value of this one; ``on_error`` where this one or ``callback`` fails."""
        following = Promise(callback, on_error)
        with self._guard:
            if not self.ready:
                self._after.append(following)
                return following
        following._follow(self)
        return following

    def cancel(self) -> None:
        """Never make the call, nor those after it."""
        with self._guard:
            self.cancelled = True
            after, self._after = self._after, []
        if self._when_cancelled is not None:
            self._when_cancelled()
        for each in after:
            each.cancel()

    def when_cancelled(self, action: Callable[[], object]) -> None:
        """Have ``action`` called by ``cancel``."""
        self._when_cancelled = action

    def __call__(self, given: Any) -> None:
        """Make the call with ``given``. Raises what it raises, unless ``on_error`` is there."""
        if not self._begin():
            return
        try:
            self.value = self._call(given)
        except Exception as error:
            self._settle(error)
        else:
            self._settle(None)

    def throw(self, error: BaseException) -> None:
        """Fail instead of making the call. Raises ``error``, unless ``on_error`` is there."""
        if self._begin():
            self._settle(error)

    def _begin(self) -> bool:
        with self._guard:
            if self.cancelled or self._begun:
                return False
            self._begun = True
            return True

    def _settle(self, error: BaseException | None) -> None:
        with self._guard:
            self.failed, self.reason, self.ready = error is not None, error, True
            after, self._after = self._after, []
        for each in after:
            each._follow(self)
        if error is None:
            return
        if self._on_error is not None:
            self._on_error(error)
        elif not after:
            raise error

    def _follow(self, before: Promise) -> None:
        if before.reason is not None:
            self.throw(before.reason)
        else:
            self(before.value)
