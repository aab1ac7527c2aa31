"""Settings in a project's source: which names it sets, and what Umbel makes of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from umbel import backends, brokers
from umbel.compat.missing import MODULES
from umbel.compat.scan.findings import Level
from umbel.compat.scan.knowledge import Verdict, check_module, check_name
from umbel.config.naming import SIMILAR, suggest, translate
from umbel.config.sections import DECLARED
from umbel.errors import ConfigurationError
from umbel.urls import normalise, redact, scheme_of

UNSENT = {"worker_send_task_events", "task_send_sent_event"}
URLS = {
    "broker_url": ("broker", brokers.BUILTIN, "umbel.brokers"),
    "broker_read_url": ("broker", brokers.BUILTIN, "umbel.brokers"),
    "broker_write_url": ("broker", brokers.BUILTIN, "umbel.brokers"),
    "result_backend": ("result store", backends.BUILTIN, "umbel.backends"),
}
"""Settings with addresses: of what, its drivers, and the group of entry points of other packages' drivers."""


class Assigned(NamedTuple):
    """A setting that a project sets: its name as it is spelt, the value, and the line."""

    name: str
    value: ast.expr
    line: int


def assigned_in(body: list[ast.stmt]) -> Iterator[Assigned]:
    """The names that a module or class gives values to, also under ``if`` and ``try``."""
    for node in body:
        match node:
            case ast.Assign():
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        yield Assigned(target.id, node.value, node.lineno)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield Assigned(name, value, node.lineno)
            case ast.If():
                yield from assigned_in([*node.body, *node.orelse])
            case ast.Try():
                yield from assigned_in([*node.body, *node.orelse, *node.finalbody])
            case _:
                pass


def assigned_by(call: ast.Call) -> Iterator[Assigned]:
    """The keywords of a call, and the keys of the dicts that it is given."""
    for keyword in call.keywords:
        if keyword.arg is not None:
            yield Assigned(keyword.arg, keyword.value, keyword.value.lineno)
        elif isinstance(keyword.value, ast.Dict):
            yield from _keys(keyword.value)
    for argument in call.args:
        if isinstance(argument, ast.Dict):
            yield from _keys(argument)


def _keys(table: ast.Dict) -> Iterator[Assigned]:
    for key, value in zip(table.keys, table.values, strict=True):
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield Assigned(key.value, value, key.lineno)


def check_setting(given: Assigned, prefix: str = "", *, certain: bool = True) -> Verdict:
    """What Umbel makes of a setting. ``certain``: that it is meant for Celery; a module may hold other names."""
    name = translate(given.name, prefix)
    if name is None:
        return _check_unknown(given.name, prefix) if certain or _looks_meant(given.name) else None
    if name == "beat_schedule" and "celery.beat" in MODULES:
        return Level.MISSING, f"periodic tasks are not sent: {MODULES['celery.beat']}"
    if name.startswith("beat_") and "celery.beat" in MODULES:
        return Level.IGNORED, MODULES["celery.beat"]
    if (name.startswith("event_") or name in UNSENT) and "celery.events" in MODULES:
        return Level.IGNORED, MODULES["celery.events"]
    reason = DECLARED[name].ignored
    if reason is not None:
        return Level.IGNORED, reason
    value = given.value.value if isinstance(given.value, ast.Constant) else None
    if isinstance(value, str) and name in URLS:
        return _check_url(name, value)
    if isinstance(value, str) and value.startswith("celery."):
        return _check_path(value)
    return None


def _looks_meant(name: str) -> bool:
    return name.startswith(("CELERY_", "CELERYD_", "CELERYBEAT_", "BROKER_"))


def _check_unknown(name: str, prefix: str) -> Verdict:
    bare = name.removeprefix(prefix)
    similar = suggest(bare.lower() if prefix else bare, SIMILAR)
    if similar is None:
        return None
    return Level.DIFFERS, f"no setting of Celery or Umbel, and taken for another package's; did you mean {similar}?"


def _check_url(name: str, value: str) -> Verdict:
    from importlib.metadata import entry_points

    kind, builtin, group = URLS[name]
    for url in value.split(";"):
        try:
            scheme = scheme_of(normalise(url))
        except ConfigurationError:
            continue
        family = scheme.partition("+")[0]
        known = {*builtin, *(entry.name for entry in entry_points(group=group))}
        if not known & {scheme, family}:
            return Level.MISSING, f"Umbel has no driver for this {kind}: {redact(url)}"
    return None


def _check_path(value: str) -> Verdict:
    module, colon, name = value.partition(":")
    if not colon:
        module, _, name = value.rpartition(".")
    return check_module(module) or check_name(module, name)
