"""The sources of configuration: mappings, objects and modules, the environment, ``pyproject.toml``.

Each source gives a dict of :class:`Entry` by setting name: value, checked and converted, and origin. What is wrong in
a source is collected and raised as one :class:`ConfigurationError`, so that a user mends everything in one go.
"""

import fnmatch
import importlib
import logging
import os
import types
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, NamedTuple, Protocol, cast

from umbel.config.checking import checked
from umbel.config.naming import SIMILAR, suggest, translate, unknown
from umbel.config.sections import DECLARED
from umbel.errors import ConfigurationError

log = logging.getLogger("umbel.config")

PREFIX = "UMBEL_"

CELERY_VARIABLES = {
    "CELERY_BROKER_URL": "broker_url",
    "CELERY_BROKER_READ_URL": "broker_read_url",
    "CELERY_BROKER_WRITE_URL": "broker_write_url",
    "CELERY_RESULT_BACKEND": "result_backend",
    "CELERY_WORKER_REVOKE_EXPIRES": "task_revoke_expires",
}
"""Variables that Celery reads from the environment; the ``UMBEL_`` name of a setting goes before them."""

OTHER_VARIABLES = {
    "UMBEL_APP": "the application that commands use if `-A` is not given",
    "UMBEL_AS_CELERY": "1 is the same as the option `--as-celery` of commands",
    "UMBEL_HOME": "the directory of the embedded broker's file, by default `.umbel`",
    "UMBEL_RUNTIME_DIR": "the directory of the sockets by which `umbel health` asks workers, by default "
    "`umbel-<uid>` among temporary files",
    "UMBEL_DEBUG": "show the traceback of an error on the command line",
    "UMBEL_REQUIRE_SERVICES": "fail tests whose server is missing instead of skipping them",
    "UMBEL_TEST_*": "where tests find their servers, and how much they do",
    "UMBEL_CELERY_PYTHON": "the interpreter whose Celery the tests run beside",
    "UMBEL_BENCH_*": "parameters of the benchmarks",
    "UMBEL_DEMO_*": "parameters of the demo",
}
"""Variables with the prefix that are not settings. A star stands for any ending."""

PLAIN = (str, bytes, int, float, list, tuple, dict, set, frozenset, timedelta, types.NoneType)
"""Types of module attributes that are taken for configuration when their name is unknown."""


class Entry(NamedTuple):
    """A value and where it came from."""

    value: Any
    origin: str


class Source(Protocol):
    """Where values come from."""

    def entries(self) -> dict[str, Entry]:
        """The values by setting name. Raises :class:`ConfigurationError` naming all that is wrong."""
        ...


class Foreign:
    """Names of settings that belong to other packages, which read them from the configuration.

    ``patterns``: names or globs, whatever their case. A single ``"*"`` accepts every name, with a warning where it
    looks like a misspelt setting.
    """

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self.patterns: list[str] = []
        self._warned: set[str] = set()
        self.add(patterns)

    def add(self, patterns: Iterable[str]) -> None:
        """Accept these as well."""
        self.patterns += [pattern.lower() for pattern in patterns]

    def accepts(self, *names: str) -> bool:
        """Whether any of ``names``, which mean the same setting, is one."""
        return any(fnmatch.fnmatchcase(name.lower(), pattern) for name in names for pattern in self.patterns)

    def told(self, name: str, origin: str) -> None:
        """One that was accepted has been read."""
        if not self.accepts_all or name in self._warned:
            return
        similar = suggest(name, SIMILAR)
        if similar is not None:
            self._warned.add(name)
            log.warning("unknown, taken for another package's: setting=%s origin=%r like=%s", name, origin, similar)

    @property
    def accepts_all(self) -> bool:
        return "*" in self.patterns


class _Found:
    """Collects what one source says, and its errors."""

    def __init__(self, foreign: Foreign | None = None) -> None:
        self.entries: dict[str, Entry] = {}
        self.problems: list[str] = []
        self._spelt: dict[str, str] = {}
        self._foreign = foreign or Foreign()

    def add_unknown(self, spelt: str, value: Any, origin: str, prefix: str = "") -> None:
        """A name that is no setting: one of another package, or a problem."""
        name = spelt.removeprefix(prefix)
        if self._foreign.accepts(name, spelt):
            self._foreign.told(name, origin)
            self.entries[name] = Entry(value, origin)
        else:
            self.problems.append(unknown(spelt, origin, prefix))

    def add(self, name: str, spelt: str, value: Any, origin: str, *, text: bool = False) -> None:
        if spelt != name and not text:
            origin = f"{origin}, as {spelt}"
        try:
            fitted = checked(DECLARED[name], value, origin, text=text)
        except ConfigurationError as error:
            self.problems.append(str(error))
            return
        before = self.entries.get(name)
        if before is not None and before.value != fitted:
            self.problems.append(
                f"{name} is given twice with different values, as {self._spelt[name]} and as {spelt} ({origin})"
            )
            return
        self._spelt[name] = spelt
        self.entries[name] = Entry(fitted, origin)

    def result(self) -> dict[str, Entry]:
        if len(self.problems) > 1:
            count = len(self.problems)
            raise ConfigurationError(f"{count} errors in the configuration:\n  " + "\n  ".join(self.problems))
        if self.problems:
            raise ConfigurationError(self.problems[0])
        return self.entries


class Values:
    """A mapping of names to values in which every name must be a setting, or one of another package."""

    def __init__(self, values: Mapping[str, Any], origin: str, foreign: Foreign | None = None) -> None:
        self._values = values
        self._origin = origin
        self._foreign = foreign

    def entries(self) -> dict[str, Entry]:
        found = _Found(self._foreign)
        for spelt, value in self._values.items():
            name = translate(spelt)
            if name is None:
                found.add_unknown(spelt, value, self._origin)
            else:
                found.add(name, spelt, value, self._origin)
        return found.result()


class Fixed:
    """Entries that were read before, as of a copy of settings."""

    def __init__(self, entries: dict[str, Entry]) -> None:
        self._entries = entries

    def entries(self) -> dict[str, Entry]:
        return self._entries


class Object:
    """A module, class, object or mapping, or the dotted name of one, which is imported when it is read.

    With a ``namespace`` ("CELERY"), only names with this prefix count and each must be a setting: Django's style.
    Without one, every key of a mapping must be a setting. Of other objects, names that look like misspelt settings are
    errors, other unknown plain values are ignored with a warning, and whatever else a module holds is not looked at.
    What ``foreign`` accepts counts as a setting.
    """

    def __init__(
        self, target: Any, *, namespace: str | None = None, silent: bool = False, foreign: Foreign | None = None
    ) -> None:
        self._target = target
        self._foreign = foreign or Foreign()
        self._prefix = "" if not namespace else namespace if namespace.endswith("_") else namespace + "_"
        self._silent = silent

    def entries(self) -> dict[str, Entry]:
        try:
            target = load_object(self._target) if isinstance(self._target, str) else self._target
        except ConfigurationError:
            if self._silent:
                return {}
            raise
        if isinstance(target, Mapping):
            target = cast("Mapping[str, Any]", target)
            if not self._prefix:
                return Values(target, "dict", self._foreign).entries()
            return self._prefixed(((k, v) for k, v in target.items() if k.startswith(self._prefix)), "dict")
        origin = self._origin(target)
        if self._prefix:
            names = [name for name in dir(target) if name.startswith(self._prefix)]
            return self._prefixed(((name, getattr(target, name)) for name in names), origin)
        return self._attributes(target, origin)

    def _origin(self, target: Any) -> str:
        if isinstance(target, types.ModuleType):
            return f"module {target.__name__}"
        if isinstance(self._target, str):
            return f"object {self._target}"
        return f"object {target.__qualname__ if isinstance(target, type) else type(target).__qualname__}"

    def _prefixed(self, items: Iterator[tuple[str, Any]], origin: str) -> dict[str, Entry]:
        found = _Found(self._foreign)
        for spelt, value in items:
            name = translate(spelt, self._prefix)
            if name is None:
                found.add_unknown(spelt, value, origin, self._prefix)
            else:
                found.add(name, spelt, value, origin)
        return found.result()

    def _attributes(self, target: Any, origin: str) -> dict[str, Entry]:
        found = _Found(self._foreign)
        for spelt in dir(target):
            if spelt.startswith("_"):
                continue
            name = translate(spelt)
            if name is not None:
                value = getattr(target, spelt)
                if not isinstance(value, types.ModuleType):
                    found.add(name, spelt, value, origin)
            elif self._foreign.accepts(spelt):
                if isinstance(getattr(target, spelt), PLAIN):
                    found.add_unknown(spelt, getattr(target, spelt), origin)
            elif _looks_like_setting(spelt) and isinstance(getattr(target, spelt), PLAIN):
                if suggest(spelt, SIMILAR):
                    found.problems.append(unknown(spelt, origin))
                else:
                    log.warning("ignored, not a setting: name=%s origin=%r", spelt, origin)
        return found.result()


class Environment:
    """Variables ``UMBEL_<SETTING>``, and the few that Celery reads."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = environ

    def entries(self) -> dict[str, Entry]:
        environ = os.environ if self._environ is None else self._environ
        found = _Found()
        for variable, name in CELERY_VARIABLES.items():
            if variable in environ and PREFIX + name.upper() not in environ:
                found.add(name, variable, environ[variable], f"environment {variable}", text=True)
        for variable in sorted(environ):
            if not variable.startswith(PREFIX) or _is_other(variable):
                continue
            name = variable[len(PREFIX) :].lower()
            origin = f"environment {variable}"
            if name in DECLARED:
                found.add(name, variable, environ[variable], origin, text=True)
            else:
                found.problems.append(unknown(variable, "environment", PREFIX))
        return found.result()


class PyProject:
    """The table ``[tool.umbel]`` of ``path``, or of the nearest ``pyproject.toml`` from the working directory up."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._path = path

    def entries(self) -> dict[str, Entry]:
        path = nearest_pyproject() if self._path is None else os.fspath(self._path)
        if path is None:
            return {}
        import tomllib

        try:
            with open(path, "rb") as file:
                document = tomllib.load(file)
        except OSError as error:
            raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
        table: Any = document.get("tool", {})
        if isinstance(table, dict):
            table = cast("dict[str, Any]", table).get("umbel", {})
        if not isinstance(table, dict):
            raise ConfigurationError(f"tool.umbel in {path} must be a table")
        return Values(cast("dict[str, Any]", table), f"{path} [tool.umbel]").entries()


def nearest_pyproject(start: str | None = None) -> str | None:
    """Path of the first ``pyproject.toml`` in ``start`` (default: the working directory) or a directory above it."""
    directory = os.path.abspath(start or os.getcwd())
    while True:
        path = os.path.join(directory, "pyproject.toml")
        if os.path.isfile(path):
            return path
        if directory == os.path.dirname(directory):
            return None
        directory = os.path.dirname(directory)


def load_object(name: str) -> Any:
    """The module ``name``, or the object of a module (``package.module:object`` or ``package.module.object``).

    Raises :class:`ConfigurationError` if there is no such module or object. What a module raises when it is imported is
    passed on as it is.
    """
    module_name, colon, attribute = name.partition(":")
    target = _imported(module_name)
    if target is None and not colon and "." in module_name:
        module_name, _, attribute = module_name.rpartition(".")
        target = _imported(module_name)
    if target is None:
        raise ConfigurationError(f"cannot find the configuration {name!r}: no such module")
    for part in filter(None, attribute.split(".")):
        if not hasattr(target, part):
            raise ConfigurationError(f"cannot find the configuration {name!r}: {module_name} has no {part!r}")
        target = getattr(target, part)
    return target


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            return None
        raise


def _looks_like_setting(name: str) -> bool:
    return name.islower() or (name.isupper() and name.startswith(("CELERY", "BROKER_")))


def _is_other(variable: str) -> bool:
    return any(
        variable.startswith(other[:-1]) if other.endswith("*") else variable == other for other in OTHER_VARIABLES
    )
