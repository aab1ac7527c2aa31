"""The sending half of ``rpc://``: results on their way to reply queues.

Whoever ends tasks acknowledges them next, and a sender has its answer, and knows its task is safe, when both are seen.
So results that need not outlive the broker are written, and not waited for. They are remembered until the broker has
confirmed them: what a connection broke over is sent again on the next one, before anything that was stored later.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence

from umbel.backends.caller import Caller
from umbel.brokers.amqp.posts import Post
from umbel.brokers.amqp.publisher import Publisher
from umbel.errors import BackendError, OperationalError, UmbelError

logger = logging.getLogger(__name__)

_PAUSE = 0.2
_FAREWELL = 2.0


class Answers:
    """Sends by ``publisher``, in the order of calls. ``timeout``: seconds of a call that waits; ``persistent``: every
    call waits until the broker has confirmed it."""

    def __init__(self, publisher: Publisher, timeout: float, persistent: bool, caller: Caller) -> None:
        self._publisher = publisher
        self._timeout = timeout
        self._persistent = persistent
        self._caller = caller
        self._sending = threading.Lock()
        self._news = threading.Condition()
        self._under_way = 0
        self._broken: deque[Post] = deque()
        self._closed = False

    def send(self, posts: Sequence[Post]) -> None:
        """Send these. Raises OperationalError, BackendError, MessageTooLarge; then none of them will be sent later."""
        with self._sending:
            if self._persistent or self._broken or not self._begin(posts):
                self._send_broken()
                self._await(posts)

    def _begin(self, posts: Sequence[Post]) -> bool:
        with self._news:
            self._under_way += 1
        begun = False
        try:
            begun = self._publisher.begin(posts, lambda outcomes: self._ended(posts, outcomes))
        finally:
            if not begun:
                self._end_one()
        return begun

    def _await(self, posts: Sequence[Post]) -> None:
        for outcome in self._publisher.send(posts, self._timeout):
            if isinstance(outcome, OperationalError):
                raise outcome
            if outcome is not None:
                raise BackendError(f"a result was not sent: {outcome}") from outcome

    def _send_broken(self) -> None:
        """Send again what connections broke over. Raises OperationalError."""
        posts = list(self._broken)
        if not posts:
            return
        failure: OperationalError | None = None
        for post, outcome in zip(posts, self._publisher.send(posts, self._timeout), strict=True):
            self._broken.popleft()
            if isinstance(outcome, OperationalError):
                self._broken.append(post)
                failure = outcome
            elif outcome is not None:
                _log_refusal(outcome)
        if failure is not None:
            raise failure

    def _send_broken_soon(self) -> None:
        """For when nothing is stored any more that would do it."""
        try:
            with self._sending:
                self._send_broken()
        except OperationalError as error:
            logger.warning("%d results are not sent yet: %s", len(self._broken), error)
            if not self._closed:
                time.sleep(_PAUSE)
                self._caller.call(self._send_broken_soon)

    def close(self) -> None:
        """Wait until all is confirmed, for two seconds at most."""
        self._closed = True
        with self._news:
            if not self._news.wait_for(lambda: not self._under_way, _FAREWELL):
                logger.warning("results may be lost: the broker has not confirmed them within %g s", _FAREWELL)

    # -- I/O thread --

    def _ended(self, posts: Sequence[Post], outcomes: Sequence[UmbelError | None]) -> None:
        lost = False
        for post, outcome in zip(posts, outcomes, strict=True):
            if isinstance(outcome, OperationalError):
                self._broken.append(post)
                lost = True
            elif outcome is not None:
                _log_refusal(outcome)
        self._end_one()
        if lost:
            self._caller.call(self._send_broken_soon)

    def _end_one(self) -> None:
        with self._news:
            self._under_way -= 1
            if not self._under_way:
                self._news.notify_all()


def _log_refusal(error: UmbelError) -> None:
    logger.error("a result was not sent, since the broker refused it: %s", error)
