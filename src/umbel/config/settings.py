"""Settings: the configuration of an application, as typed attributes and as a mapping."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from threading import get_ident
from typing import TYPE_CHECKING, Any

from umbel.config.loading import Entry, Environment, Fixed, Foreign, Object, PyProject, Source, Values, log
from umbel.config.masking import masked
from umbel.config.naming import known, translate
from umbel.config.sections import DECLARED, Declared
from umbel.errors import ConfigurationError

DEFAULT = "default"
"""The origin of values that nobody has set."""


class Settings(Declared, Mapping[str, Any]):
    """Every setting, as an attribute and as an item: ``settings.task_serializer``, ``settings["task_serializer"]``.

    Later ones of these go before earlier ones: defaults, :meth:`add_defaults`, ``[tool.umbel]`` of the nearest
    ``pyproject.toml`` (if ``pyproject`` is true, or of the file it names), objects given to :meth:`from_object`,
    the environment (``environ``, by default the process's own), ``values`` and whatever is assigned later.

    Sources are read when the first value is. An unknown name or a wrong type raises ``ConfigurationError``. Reading an
    attribute that does not exist is Python's ``AttributeError``; items, ``update`` and assignments suggest a name.

    ``foreign``: names, or globs, of settings that other packages keep here (``"ONCE"``, ``"redbeat_*"``). They are
    taken as they are, and can be read in lower and upper case; what iterates over all settings leaves them out.
    """

    if TYPE_CHECKING:
        _sources: "_Sources"
        _origins: dict[str, str]
        _loading: set[int]
        _of_others: dict[str, Any]
        edition: int
        """Another number whenever a value may have changed: what was made of the settings is to be made anew then."""

    def __init__(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        pyproject: bool | str | os.PathLike[str] = False,
        foreign: Iterable[str] = (),
    ) -> None:
        self._begin(_Sources(Foreign(foreign)))
        if pyproject:
            self._sources.add("pyproject", PyProject(None if pyproject is True else pyproject))
        self._sources.add("environment", Environment(environ))
        if values:
            self.update(values)

    def _begin(self, sources: "_Sources") -> None:
        self.__dict__.update(_sources=sources, _origins={}, _loading=set(), _of_others={}, edition=0)

    # -- sources -----------------------------------------------------------------------------------

    def from_object(self, target: Any, *, namespace: str | None = None, silent: bool = False) -> None:
        """Take values from a module, class, object or mapping, or the name of one (``"proj.celeryconfig"``).

        A name is imported when the first setting is read. With ``namespace="CELERY"`` only names such as
        ``CELERY_BROKER_URL`` count. ``silent`` accepts that there is no such module. Of several objects, later ones
        go first.
        """
        foreign = self._sources.foreign
        self._sources.add("objects", Object(target, namespace=namespace, silent=silent, foreign=foreign))
        self._unload()

    def accept_foreign(self, *patterns: str) -> None:
        """Accept settings with these names, or globs such as ``"redbeat_*"``, which other packages read from here.

        To be called before a source has them that was given as an object or is read later.
        """
        self._sources.foreign.add(patterns)
        self._unload()

    def add_defaults(self, values: Mapping[str, Any]) -> None:
        """Set defaults of the application, before which every other source goes."""
        self._sources.add("defaults", Values(values, f"application default, {_place()}", self._sources.foreign))
        self._unload()

    def load(self) -> None:
        """Read every source now. Raises :class:`ConfigurationError` naming all that is wrong in a source."""
        thread = get_ident()
        if thread in self._loading:
            raise ConfigurationError("a setting is read by the module that the configuration is loaded from")
        self._loading.add(thread)
        try:
            entries = self._sources.merged()
        finally:
            self._loading.discard(thread)
        self._sources.warn(entries)
        self._publish(entries)
        self._publish(self._sources.assigned)

    def _publish(self, entries: dict[str, Entry]) -> None:
        for name, entry in entries.copy().items():
            self._origins[name] = entry.origin
            (self.__dict__ if name in DECLARED else self._of_others)[name] = entry.value
        self.__dict__["edition"] += 1

    def _unload(self) -> None:
        self.__dict__["edition"] += 1
        for name in DECLARED:
            self.__dict__.pop(name, None)
        self._of_others.clear()

    def _find_of_others(self, name: str) -> str | None:
        """The setting of another package that ``name`` means, in whatever case it was given."""
        if not self._sources.foreign.patterns:
            return None
        if not self._is_loaded() and get_ident() not in self._loading:
            self.load()
        spellings = (name, name.lower(), name.upper())
        return next((each for each in spellings if each in self._of_others), None)

    # -- reading -----------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Any:
        return self._value(self._known(name, "read by name"))

    def _value(self, name: str) -> Any:
        """Of a known setting."""
        return self._of_others[name] if name in self._of_others else getattr(self, name)

    def _known(self, name: str, origin: str) -> str:
        return translate(name) or self._find_of_others(name) or known(name, origin)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The setting of another package; those that are declared are found before this is asked."""
            found = None if name.startswith("_") else self._find_of_others(name)
            if found is None:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            return self._of_others[found]

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a setting, or ``default`` if there is no setting of this name."""
        found = translate(name) or self._find_of_others(name)
        return default if found is None else self._value(found)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (translate(name) or self._find_of_others(name)) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(DECLARED)

    def __len__(self) -> int:
        return len(DECLARED)

    def origin(self, name: str) -> str:
        """Where the value of a setting came from: "default", or the source that set it."""
        found = self._known(name, "origin")
        self._value(found)
        return self._origins[found]

    def changed(self) -> dict[str, Any]:
        """The settings that a source has set, by name."""
        self.load()
        return {name: self.__dict__[name] for name in DECLARED if self._origins[name] != DEFAULT}

    without_defaults = changed

    def value_set_for(self, key: str) -> bool:
        """Whether a source has set this setting."""
        return self.origin(key) != DEFAULT

    def table(self, with_defaults: bool = False, censored: bool = True) -> dict[str, Any]:
        """The settings that a source has set, or all of them; passwords and keys are masked, if ``censored``."""
        values = dict(self) if with_defaults else self.changed()
        known = DECLARED.keys() if censored else ()
        return {name: masked(DECLARED[name], value) if name in known else value for name, value in values.items()}

    def humanize(self, with_defaults: bool = False, censored: bool = True) -> str:
        """``table`` as text, a line for each setting."""
        return "\n".join(f"{name}: {value!r}" for name, value in self.table(with_defaults, censored).items())

    # -- writing -----------------------------------------------------------------------------------

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    if not TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None:
            self.update({name: value})

        def __delattr__(self, name: str) -> None:
            self.reset(name)

    def update(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **more: Any) -> None:
        """Assign several settings: all of them, or none if one is wrong."""
        self.assign({**dict(values), **more}, f"set at {_place()}")

    def assign(self, values: Mapping[str, Any], origin: str) -> None:
        """As :meth:`update`, with the origin to show, such as "command line --broker"."""
        entries = Values(values, origin, self._sources.foreign).entries()
        self._sources.warn(entries)
        self._sources.assigned.update(entries)
        if self._is_loaded():
            self._publish(entries)

    def reset(self, name: str) -> None:
        """Forget what was assigned to a setting; the value of the next source holds again."""
        if self._sources.assigned.pop(self._known(name, "reset"), None) is not None:
            self._unload()

    def _is_loaded(self) -> bool:
        return "worker_pool" in self.__dict__

    # -- copies and display ------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        merged = self._sources.merged()
        assigned = self._sources.assigned
        read = {n: e for n, e in merged.items() if e.origin != DEFAULT and n not in assigned}
        return {"read": read, "assigned": dict(assigned), "foreign": self._sources.foreign.patterns}

    def __setstate__(self, state: dict[str, Any]) -> None:
        sources = _Sources(Foreign(state["foreign"]))
        sources.add("objects", Fixed(state["read"]))
        sources.assigned.update(state["assigned"])
        self._begin(sources)

    def __repr__(self) -> str:
        if not self._is_loaded():
            return "<Settings: not loaded>"
        shown = ", ".join(f"{name}={masked(DECLARED[name], value)!r}" for name, value in self.changed().items())
        return f"<Settings: {shown or 'defaults'}>"


class _Sources:
    """The sources of one object, in the order of precedence. Each is read once and kept, so that what a program changes
    in place, such as ``beat_schedule``, stays."""

    ORDER = ("defaults", "pyproject", "objects", "environment")

    def __init__(self, foreign: Foreign) -> None:
        self.foreign = foreign
        self.assigned: dict[str, Entry] = {}
        self._ranked: dict[str, list[Source]] = {rank: [] for rank in self.ORDER}
        self._read: dict[Source, dict[str, Entry]] = {}
        self._warned: set[str] = set()
        self._defaults = {n: Entry(declared.fresh_default(), DEFAULT) for n, declared in DECLARED.items()}

    def add(self, rank: str, source: Source) -> None:
        self._ranked[rank].append(source)

    def merged(self) -> dict[str, Entry]:
        entries = dict(self._defaults)
        for rank in self.ORDER:
            for source in self._ranked[rank]:
                if source not in self._read:
                    self._read[source] = source.entries()
                entries.update(self._read[source])
        entries.update(self.assigned)
        return entries

    def warn(self, entries: dict[str, Entry]) -> None:
        """Log, once each, the settings that were set although they have no effect."""
        for name, entry in entries.items():
            reason = DECLARED[name].ignored if name in DECLARED else None
            if reason is not None and entry.origin != DEFAULT and name not in self._warned:
                self._warned.add(name)
                log.warning("no effect in Umbel: setting=%s origin=%r reason=%r", name, entry.origin, reason)


def _place() -> str:
    """File and line of the nearest caller outside Umbel, relative to the working directory where it lies below."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage] - `inspect` costs 10 ms of import time
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == "umbel":
        frame = frame.f_back
    file = frame.f_code.co_filename
    here = os.getcwd() + os.sep
    return f"{file.removeprefix(here)}:{frame.f_lineno}"
