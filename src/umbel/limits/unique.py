"""Unique tasks: of calls with the same key, one waits (or waits or runs) at a time.

A call claims its key before its message is sent. Who finds the key taken gets the result of the call that has it, an
error, or takes the key over; what a worker receives for a key that belongs to another call is not run.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec
from msgspec import Struct

from umbel.backends.base import READY_STATES
from umbel.errors import ConfigurationError, DuplicateTaskError, UmbelError
from umbel.limits.holds_opening import open_holds
from umbel.limits.holds_store import ANY, Claim, HoldStore
from umbel.limits.keys import Key, compile_key, shortened
from umbel.message import Message, now

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.task import Task

logger = logging.getLogger("umbel.unique")

DAY = 86400.0
_UNTIL = ("start", "done")
_ON_CONFLICT = ("skip", "raise", "replace")


class Unique(Struct, frozen=True, kw_only=True):
    """How calls of a task are unique: value of the option ``unique``; True stands for ``Unique()``.

    ``key``: what makes two calls the same, a format string over the names of the parameters or a function of the
    arguments; by default all arguments, however they are passed. ``until``: the key is free again when the task begins
    (``"start"``), or when it has ended (``"done"``). ``on_conflict``: ``"skip"``: nothing is sent,
    the result of the earlier call is returned; ``"raise"``: DuplicateTaskError; ``"replace"``: the earlier call is not
    run if no worker has it yet. ``ttl``: seconds after which a key is free in any case, counted from the call's eta and
    anew from when a worker takes it.
    """

    key: str | Callable[..., Any] | None = None
    until: Literal["start", "done"] = "done"
    on_conflict: Literal["skip", "raise", "replace"] = "skip"
    ttl: float = DAY


class Rule(Struct, frozen=True):
    """``Unique`` of one task, ready to be used."""

    name: str
    key: Key
    unique: Unique

    def of(self, message: Message) -> str | None:
        """The key of a message; None where its arguments do not fit the task. Raises LimitKeyError."""
        key = self.key(message)
        return None if key is None else shortened(f"{self.name}:{key}")

    def claim(self, key: str, message: Message, instead_of: str = "") -> Claim:
        """The claim of a message that is about to run."""
        return Claim(key, message.id, self.unique.ttl, instead_of)

    def claim_to_wait(self, key: str, message: Message, instead_of: str = "") -> Claim:
        """The claim of a message that is about to be sent: what expires first needs its key no longer."""
        moment = now()
        ttl = self.unique.ttl + max(0.0, (message.eta or 0.0) - moment)
        if message.expires is not None:
            ttl = max(0.001, min(ttl, message.expires - moment))
        return Claim(key, message.id, ttl, instead_of)


def unique_rule(task: Task[..., Any]) -> Rule | None:
    """How calls of a task are unique, None when they are not. Raises ConfigurationError for a wrong option."""
    option: Any = task.unique
    if option is None or option is False:
        return None
    unique = Unique() if option is True else option
    where = f"unique of task {task.name}"
    if not isinstance(unique, Unique):
        raise ConfigurationError(f"{where} must be True or umbel.Unique(…), not {unique!r}")
    _check(where, "until", unique.until, _UNTIL)
    _check(where, "on_conflict", unique.on_conflict, _ON_CONFLICT)
    ttl: Any = unique.ttl
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not 0 < ttl < float("inf"):
        raise ConfigurationError(f"{where}: ttl must be a number of seconds above 0, not {ttl!r}")
    declared = SimpleNamespace(name=task.name, run=task.run, app=task.app, unique_key=unique.key or _of_arguments)
    key = compile_key(cast("Any", declared), "unique_key")
    assert key is not None
    return Rule(task.name, key, unique)


def _check(where: str, option: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigurationError(f"{where}: {option} is {value!r}; it must be one of {', '.join(known)}")


def _of_arguments(*args: Any, **kwargs: Any) -> str:
    """All arguments as text. Raises TypeError for one that is not made of plain values."""
    return hashlib.sha256(msgspec.json.encode((args, kwargs), order="sorted")).hexdigest()[:40]


def rule_of(task: Task[..., Any]) -> Rule | None:
    """As ``unique_rule``, found out once."""
    if not task.unique:
        return None
    rule: Rule | None = task.__dict__.get("_unique_rule")
    if rule is None:
        rule = task.__dict__["_unique_rule"] = unique_rule(task)
    return rule


def unique_rules(app: Umbel) -> dict[str, Rule]:
    """The rules of an application's tasks by task name. Raises ConfigurationError."""
    found = {name: rule_of(task) for name, task in app.tasks.items()}
    return {name: rule for name, rule in found.items() if rule is not None}


def claims_of(app: Umbel, rule: Rule) -> HoldStore:
    """Where the keys of a task are kept. Raises ConfigurationError when there is no such place."""
    return open_holds(app, f"unique of task {rule.name}")


def publish_unique(app: Umbel, messages: Sequence[Message], timeout: float) -> dict[str, str]:
    """Claim the keys of those messages whose tasks are unique, and send what is to be sent.

    Returns, by the ids of messages that were not sent, the ids of the calls that have their keys. Raises what
    ``Umbel.publish`` does, ConfigurationError, LimitKeyError, and DuplicateTaskError (nothing was sent).
    """
    keyed: list[tuple[Message, Rule, str]] = []
    for message in messages:
        task = app.tasks.get(message.task)
        rule = rule_of(task) if task is not None else None
        key = rule.of(message) if rule is not None else None
        if rule is not None and key is not None:
            keyed.append((message, rule, key))
    if not keyed:
        app.publish(messages, timeout)
        return {}
    store = claims_of(app, keyed[0][1])
    claims = [
        rule.claim_to_wait(key, message, ANY if rule.unique.on_conflict == "replace" else "")
        for message, rule, key in keyed
    ]
    owners = claim_keys(app, store, claims)
    ours = [(claim.key, claim.task_id) for claim, owner in zip(claims, owners, strict=True) if owner == claim.task_id]
    taken = {claim.task_id: owner for claim, owner in zip(claims, owners, strict=True) if owner != claim.task_id}
    try:
        for message, rule, key in keyed:
            if message.id in taken and rule.unique.on_conflict == "raise":
                raise DuplicateTaskError(message.task, taken[message.id], key)
        sent = [message for message in messages if message.id not in taken]
        if sent:
            app.publish(sent, timeout)
    except BaseException:
        _give_up(store, ours)
        raise
    return taken


def claim_keys(app: Umbel, store: HoldStore, claims: Sequence[Claim]) -> list[str]:
    """As ``HoldStore.claim``; a key whose task has ended, as its result tells, is taken over.

    Such a key was left by a process that died between the end of the task and the release.
    """
    owners = store.claim(claims)
    others = [owner for claim, owner in zip(claims, owners, strict=True) if owner != claim.task_id]
    if not others or app.backend.features.knows_nothing:
        return owners
    known = app.backend.get(list(dict.fromkeys(others)))
    ended = {owner for owner in others if owner in known and known[owner].status in READY_STATES}
    if not ended:
        return owners
    again = [
        claim._replace(instead_of=owner) if owner in ended and owner != claim.task_id else claim
        for claim, owner in zip(claims, owners, strict=True)
    ]
    return store.claim(again)


def _give_up(store: HoldStore, claims: Sequence[tuple[str, str]]) -> None:
    if not claims:
        return
    try:
        store.unclaim(claims)
    except UmbelError as error:
        logger.warning("%d unique keys could not be given back, they end with their ttl: %s", len(claims), error)


def free_at_start(task: Task[..., Any], message: Message) -> None:
    """Free the key of a call that begins now, if it is unique until then. May take a round trip to a store.

    A key that cannot be freed is free when the task has ended.
    """
    rule = rule_of(task)
    if rule is None or rule.unique.until != "start":
        return
    try:
        key = rule.of(message)
        if key is not None:
            claims_of(task.app, rule).unclaim([(key, message.id)])
    except UmbelError as error:
        logger.warning("a unique key cannot be freed before its task has ended: %s", error)


def release_unique(task: Task[..., Any], message: Message) -> bool:
    """Free the key of a call, whoever has it; whether anybody had. Raises ConfigurationError, LimitKeyError."""
    rule = rule_of(task)
    key = rule.of(message) if rule is not None else None
    if rule is None or key is None:
        return False
    store = claims_of(task.app, rule)
    (owner,) = store.claim([rule.claim(key, message)])
    store.unclaim([(key, owner)])
    return owner != message.id
