"""The first layer of an application: its settings, and what follows from them alone."""

from __future__ import annotations

import datetime
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from umbel.addressing import Routes
from umbel.clock import find_timezone, now, timestamp
from umbel.config import Settings
from umbel.errors import ConfigurationError
from umbel.signals import Connection, Signal

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.bootsteps import Step
    from umbel.queues import Queue


class AppSettings(Settings):
    """Settings of an application, which hears of it when they are read."""

    if TYPE_CHECKING:
        _before_reading: Callable[[], None] | None

    def be_read_by(self, configure: Callable[[], None] | None) -> None:
        """Call ``configure``, which has to call ``load``, in place of that from now on; None: not any more."""
        self.__dict__["_before_reading"] = configure

    def load(self) -> None:
        configure = self.__dict__.get("_before_reading")
        if configure is None:
            super().load()
        else:
            configure()


class ConfiguredApp:
    """An application that has settings."""

    IS_WINDOWS = sys.platform == "win32"
    IS_macOS = sys.platform == "darwin"

    def __init__(self, main: str | None, conf: AppSettings) -> None:
        self.main = main
        self.conf = conf
        self.routes = Routes(conf)
        self.steps: dict[str, set[type[Step] | str]] = {"worker": set(), "consumer": set()}
        """Boot steps to add to the ``"worker"`` and to its ``"consumer"``: classes, or ``"module:Class"``."""
        self.user_options: dict[str, set[Any]] = defaultdict(set, {"worker": set[Any]()})
        """More options of ``umbel worker``: ``click.Option`` objects or ``click.option(…)``; boot steps get them."""
        self.on_configure = Signal(name="on_configure")
        """The settings are about to be read. Sender: the application."""
        self.on_after_configure = Signal(["source"], name="on_after_configure")
        """The settings have been read, ``source`` has them. Sent once; who connects later, but before the tasks are
        finalized, is told then. Sender: the application."""
        self._lock = threading.RLock()
        self._configured = False
        self._told: tuple[Connection, ...] = ()
        conf.be_read_by(self.configure)
        self._pending_schedule: dict[str, dict[str, Any]] = {}
        self._timezone: tuple[Any, bool, datetime.tzinfo] | None = None

    @property
    def whole(self) -> Umbel:
        """The application with all its layers."""
        return cast("Umbel", self)

    # -- configuration --

    def configure(self) -> None:
        """Read the settings, and tell those who wait for it. Idempotent; done when the first setting is read, at the
        latest when the tasks are finalized.

        Raises ConfigurationError for what is wrong in the settings; they are read again the next time.
        """
        with self._lock:
            if self._configured:
                return
            self._configured = True
            self.conf.be_read_by(None)
            try:
                self.on_configure.send(sender=self)
                self.conf.load()
            except BaseException:
                self._configured = False
                self.conf.be_read_by(self.configure)
                raise
            pending, self._pending_schedule = self._pending_schedule, {}
            if pending:
                self._add_to_schedule(pending)
            self._tell_of_settings()

    def _tell_of_settings(self) -> None:
        """Send ``on_after_configure`` to those who were not told before."""
        told, self._told = self._told, self.on_after_configure.receivers
        new = [known for known in self._told if known not in told]
        self.on_after_configure.send_to(new, sender=self, source=self.conf)

    def config_from_object(
        self, obj: Any, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        """Take settings from an object, module or its name; read when the first setting is, at once with ``force``."""
        self.conf.from_object(obj, namespace=namespace, silent=silent)
        if force:
            self.conf.load()

    def config_from_envvar(self, variable_name: str, silent: bool = False, force: bool = False) -> bool:
        """Take settings from the module that an environment variable names.

        Returns whether the variable is set; raises ConfigurationError when it is not, unless ``silent``.
        """
        name = os.environ.get(variable_name)
        if not name:
            if silent:
                return False
            raise ConfigurationError(f"the environment variable {variable_name} does not name a configuration module")
        self.config_from_object(name, silent=silent, force=force)
        return True

    def add_defaults(self, fun: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        """Set defaults, before which every other source of settings goes: a mapping, or a function that gives one."""
        self.conf.add_defaults(fun() if callable(fun) else fun)

    def either(self, default_key: str, *defaults: Any) -> Any:
        """The first of ``defaults`` that is not None, else the value of the setting ``default_key``."""
        return next((each for each in defaults if each is not None), self.conf[default_key])

    @property
    def annotations(self) -> list[Any]:
        """What ``task_annotations`` gives, as a list."""
        given = self.conf.task_annotations
        if not given:
            return []
        return list(cast("Sequence[Any]", given)) if isinstance(given, (list, tuple)) else [given]

    def add_periodic_task(
        self,
        schedule: Any,
        sig: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | Sequence[Any] = (),
        name: str | None = None,
        **opts: Any,
    ) -> str:
        """Add an entry to ``beat_schedule``: run ``sig``, a task or signature, by ``schedule``, seconds or a schedule.

        ``opts`` are execution options. Returns the name of the entry, by default the call as text.
        """
        given: dict[str, Any] = dict(kwargs)
        call = self.whole.signature(sig if isinstance(sig, Mapping) else sig.name).clone(args, given)
        key = name or repr(call)
        options = {**call.options, **opts}
        entry = {
            "schedule": schedule,
            "task": call.task,
            "args": call.args,
            "kwargs": call.kwargs,
            "options": options,
        }
        if self._configured:
            self._add_to_schedule({key: entry})
        else:
            self._pending_schedule[key] = entry
        return key

    def _add_to_schedule(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        self.conf.assign({"beat_schedule": {**self.conf.beat_schedule, **entries}}, "app.add_periodic_task")

    # -- time --

    @property
    def timezone(self) -> datetime.tzinfo:
        """The time zone of naive times. Raises ConfigurationError for an unknown name."""
        zone, utc = self.conf.timezone, self.conf.enable_utc
        known = self._timezone
        if known is None or known[0] != zone or known[1] != utc:
            known = self._timezone = zone, utc, find_timezone(zone, utc)
        return known[2]

    def now(self) -> datetime.datetime:
        """The present moment in the application's time zone."""
        return datetime.datetime.fromtimestamp(now(), self.timezone)

    def date_done(self) -> str:
        """The present moment as results note it: ISO 8601 with offset."""
        return timestamp() if self.conf.enable_utc else self.now().isoformat()

    def uses_utc_timezone(self) -> bool:
        return str(self.timezone) == "UTC"

    # -- queues and routes --

    def queues(self) -> dict[str, Queue]:
        """The configured queues by name, and those that came into use since."""
        return self.routes.queues()

    def consume_queues(self, select: Sequence[str] | None = None, exclude: Sequence[str] | None = None) -> list[Queue]:
        """The queues for a worker: the configured ones, or those selected, without those excluded.

        Raises UnroutableMessage for one that is unknown where ``task_create_missing_queues`` is off.
        """
        return self.routes.consume(select, exclude)

    def select_queues(self, queues: Sequence[str] | str | None = None) -> None:
        """Let workers of this process that are told nothing else consume from these queues only."""
        self.routes.select(queues)
