"""Verdicts on what is no Python name: settings, signals, commands, remote control, options of tasks, environment."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Container, Iterator
from typing import Any

import click

from umbel.compat.table.names import UNKNOWN, pairs, read
from umbel.compat.table.parameters import same_default, shown
from umbel.compat.table.places import MISSING, find, find_member, source_of, whole_source, words_of_source
from umbel.compat.table.reasons import NOT, Reasons, Verdict
from umbel.config import DECLARED
from umbel.config.checking import checked, describe
from umbel.config.declaring import Setting
from umbel.errors import ConfigurationError
from umbel.options import FROM_CONFIG
from umbel.urls import normalise, scheme_of

SAMPLES: dict[str, Any] = {
    "list": ["x"],
    "tuple": ("x",),
    "dict": {"x": 1},
    "string": "x",
    "str": "x",
    "int": 1,
    "float": 1.5,
    "bool": True,
    "bytes": b"x",
}
"""A value of each of the types that Celery's table of settings names."""


# -- settings --------------------------------------------------------------------------------------


def judge_settings(reasons: Reasons) -> Iterator[Verdict]:
    """Accepted with the documented type, with the same default, and read somewhere."""
    for name, (kind, _, *default) in pairs("settings"):
        declared = DECLARED.get(name)
        path = f"setting {name}"
        if declared is None:
            yield reasons.judge("", name, path, False)
        elif declared.ignored or not _is_used(name):
            yield Verdict("", name, NOT, declared.ignored or reasons.why(NOT, path))
        else:
            yield reasons.judge("", name, path, True, _setting_differs(declared, kind, " ".join(default)))


def _is_used(setting: str) -> bool:
    """Whether a setting is read somewhere, or is the default of an option that is."""
    words = words_of_source()
    return setting in words or any(setting == each and option in words for option, each in FROM_CONFIG.items())


def _setting_differs(declared: Setting, kind: str, default: str) -> str:
    wrong: list[str] = []
    try:
        checked(declared, _sample(kind, default), "documented")
    except ConfigurationError:
        wrong.append(f"takes {describe(declared.type)}, not {kind}")
    if declared.celery:
        wrong.append(f"{shown(declared.default)} by default, not {declared.celery}")
    return "; ".join(wrong)


def _sample(kind: str, default: str) -> Any:
    """The documented default where it is a value, or any value of the documented type."""
    try:
        value = ast.literal_eval(default)
    except (ValueError, SyntaxError):
        value = None
    return value if value is not None else SAMPLES.get(kind)


# -- signals ---------------------------------------------------------------------------------------


def judge_signals(reasons: Reasons) -> Iterator[Verdict]:
    """Sent by some part of Umbel, with the documented arguments."""
    sent = set(re.findall(r"(\w+)(?:\.send\b| as \w+_signal\b)", whole_source()))
    for name, arguments in pairs("signals"):
        signal = find("celery.signals", name)
        path = f"signal {name}"
        if not signal or name not in sent:
            yield Verdict("", name, NOT, reasons.why(NOT, path))
            continue
        missing = sorted(set(arguments) - signal.providing_args)
        yield reasons.judge("", name, path, True, f"without {', '.join(missing)}" if missing else "")


# -- the command line ------------------------------------------------------------------------------


def judge_commands(reasons: Reasons) -> Iterator[Verdict]:
    """A command of the same name, with the documented options; a flag may have one spelling more."""
    names = [""]
    command: click.Command | None = None
    above = Verdict("", "", NOT)
    for line in read("commands"):
        if not line.startswith(" "):
            names = [] if line == "-" else line.split()
            command = _command(names)
            path = " ".join(["command", *names])
            above = reasons.judge("umbel", " ".join(names) or "umbel", path, command is not None)
            yield above
            continue
        kind, *spellings = line.split()
        path = " ".join(["command", *names, *spellings])
        group = " ".join(["umbel", *names])
        if command is None:
            yield Verdict(group, " ".join(spellings), NOT, reasons.why(NOT, path) or above.text)
        elif kind == "argument":
            has = any(isinstance(each, click.Argument) for each in command.params)
            yield reasons.judge(group, f"argument {spellings[0]}", path, has)
        else:
            yield reasons.judge(group, " ".join(spellings), path, *_option_of(command, spellings))


def _option_of(command: click.Command, spellings: list[str]) -> tuple[bool, str]:
    """Whether a command has an option, and which of its spellings are missing or mean something else there."""
    options = [{*each.opts, *each.secondary_opts} for each in command.params]
    longest = max(spellings, key=len)
    own = next((each for each in options if longest in each), None)
    if own is None:
        return False, ""
    wrong = [
        f"`{each}` is another option" if any(each in others for others in options) else f"no `{each}`"
        for each in spellings
        if each not in own
    ]
    return True, ", ".join(wrong)


def _command(names: list[str]) -> click.Command | None:
    from umbel.cli import umbel

    found: click.Command | None = umbel
    context = click.Context(umbel)
    for name in names:
        found = found.get_command(context, name) if isinstance(found, click.Group) else None
    return found


# -- remote control --------------------------------------------------------------------------------


def judge_control(reasons: Reasons) -> Iterator[Verdict]:
    """Obeyed by workers."""
    known = _texts(source_of("worker", "remote.py"))
    for kind, (name, *aliases) in pairs("control"):
        spellings = [name, *aliases]
        found = any(each in known for each in spellings)
        yield reasons.judge(kind, " ".join(spellings), f"remote {name}", found)


def _texts(source: str) -> set[str]:
    """The strings in a module."""
    return {
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


# -- aliases ---------------------------------------------------------------------------------------


def judge_aliases(reasons: Reasons) -> Iterator[Verdict]:
    """Names of brokers, result stores and pools in settings and URLs."""
    from umbel.backends import BUILTIN as BACKENDS
    from umbel.brokers import BUILTIN as BROKERS
    from umbel.compat.celery.app.base import LOADERS
    from umbel.executors.lanes import ALIASES
    from umbel.executors.lanes import BUILTIN as POOLS

    known: dict[str, Callable[[str], bool]] = {
        "loaders": lambda name: name in LOADERS,
        "result backends": lambda name: name == BY_ADDRESS or _is_scheme(name, BACKENDS),
        "pools": lambda name: name in POOLS or name in ALIASES,
        "kombu transports": lambda name: _is_scheme(name, BROKERS),
    }
    for line in read("aliases"):
        group, _, names = line.partition(": ")
        for name in names.split():
            yield reasons.judge(group, name, f"{group}: {name}", group in known and known[group](name))


BY_ADDRESS = "database"
"""The result store that the setting ``database_url`` names."""


def _is_scheme(name: str, drivers: Container[str]) -> bool:
    """Whether URLs may begin with ``name``, or with ``name+sqlite``."""
    return any(scheme_of(normalise(each)) in drivers for each in (name, f"{name}+sqlite"))


# -- tasks -----------------------------------------------------------------------------------------


def judge_tasks(reasons: Reasons) -> Iterator[Verdict]:
    """Options and handlers of tasks, execution options, the request, the environment."""
    for kind, (name, *default) in pairs("tasks"):
        found, wrong = TASK_PARTS[kind](name, " ".join(default))
        yield reasons.judge(TITLES[kind], name, f"{kind} {name}", found, wrong)


NO_EFFECT = "accepted without effect"


def _option(name: str, default: str) -> tuple[bool, str]:
    from umbel.decorating import make_task

    parameter = inspect.signature(make_task).parameters.get(name)
    task = find("celery.app.task", "Task")
    if parameter is None and not hasattr(task, name):
        return False, ""
    real = parameter.default if parameter is not None else getattr(task, name)
    if name not in words_of_source():
        return True, NO_EFFECT
    right = default == UNKNOWN or isinstance(real, property) or same_default(default, real)
    return True, "" if right else f"{shown(real)} by default, not {default}"


def _handler(name: str, default: str) -> tuple[bool, str]:
    return callable(getattr(find("celery.app.task", "Task"), name, None)), ""


def _execution(name: str, default: str) -> tuple[bool, str]:
    from umbel.sending import KNOWN_OPTIONS

    return name in KNOWN_OPTIONS, "" if f'"{name}"' in whole_source() else NO_EFFECT


def _request(name: str, default: str) -> tuple[bool, str]:
    return find_member(find("celery.app.task", "Context"), name) is not MISSING, ""


def _environment(name: str, default: str) -> tuple[bool, str]:
    return f'"{name}"' in whole_source(compat=True), ""


TASK_PARTS: dict[str, Callable[[str, str], tuple[bool, str]]] = {
    "option": _option,
    "handler": _handler,
    "execution": _execution,
    "request": _request,
    "environment": _environment,
}
TITLES = {
    "option": "options of a task",
    "handler": "handlers of a task",
    "execution": "execution options",
    "request": "request",
    "environment": "environment",
}

SURFACES: dict[str, Callable[[Reasons], Iterator[Verdict]]] = {
    "Settings": judge_settings,
    "Signals": judge_signals,
    "Tasks, calls, requests and the environment": judge_tasks,
    "Command line": judge_commands,
    "Remote control": judge_control,
    "Names of brokers, result stores and pools": judge_aliases,
}
