"""Unique tasks at the worker: whose key belongs to another call is not run, and keys are freed in time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from umbel.brokers.base import Delivery, Settlement
from umbel.errors import LimitKeyError
from umbel.limits.holds_store import Claim, HoldStore
from umbel.limits.unique import Rule, claim_keys
from umbel.message import Message, decode_headers

if TYPE_CHECKING:
    from umbel.app import Umbel


class UniqueGate:
    """See ``worker.gates.Gate``. ``refuse`` settles a delivery whose key cannot be computed, ``drop`` one whose key
    belongs to the task of the given id."""

    def __init__(
        self,
        app: Umbel,
        rules: Mapping[str, Rule],
        store: HoldStore,
        refuse: Callable[[Delivery, Exception], Settlement],
        drop: Callable[[Delivery, str], Settlement],
    ) -> None:
        self._app = app
        self._rules = rules
        self._store = store
        self._refuse = refuse
        self._drop = drop

    def judge(self, deliveries: Sequence[Delivery]) -> Mapping[int, Settlement]:
        verdicts: dict[int, Settlement] = {}
        asking: list[Delivery] = []
        claims: list[Claim] = []
        for delivery in deliveries:
            message = delivery.message
            rule = self._rules.get(message.task)
            if rule is None or (rule.unique.until == "start" and _was_started(delivery)):
                continue
            try:
                key = rule.of(message)
            except LimitKeyError as error:
                verdicts[id(delivery)] = self._refuse(delivery, error)
                continue
            if key is not None:
                asking.append(delivery)
                claims.append(rule.claim(key, message))
        if not claims:
            return verdicts
        owners = claim_keys(self._app, self._store, claims)
        for delivery, claim, owner in zip(asking, claims, owners, strict=True):
            if owner != claim.task_id:
                verdicts[id(delivery)] = self._drop(delivery, owner)
        return verdicts

    def leave(self, messages: Sequence[Message]) -> None:
        """Keys of tasks that run are freed when all is over, not when they leave this worker: see ``over``."""

    def over(self, messages: Sequence[Message]) -> None:
        """These tasks came to their end, and will not be delivered again. Raises UmbelError."""
        free: list[tuple[str, str]] = []
        for message in messages:
            rule = self._rules.get(message.task)
            if rule is not None:
                try:
                    key = rule.of(message)
                except LimitKeyError:
                    continue
                if key is not None:
                    free.append((key, message.id))
        if free:
            self._store.unclaim(free)


def _was_started(delivery: Delivery) -> bool:
    """Whether it has begun before, so that its key has been freed."""
    return delivery.deliveries > 0 or bool(decode_headers(delivery.message.headers).get("retries"))
