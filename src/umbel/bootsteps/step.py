"""What a boot step is: its declaration, and the hooks that a blueprint calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class Step:
    """A part of a worker (or of its consumer) that is prepared once, before executors are forked.

    ``parent`` is the worker, for steps in ``app.steps["worker"]``, or its consumer, for those in
    ``app.steps["consumer"]``. ``__init__`` gets the options of the command line that it names, all of them with
    ``**options``. What ``__init__`` and ``create`` change, in settings for example, is seen by tasks; they must not
    start threads.
    """

    name: ClassVar[str] = ""
    """Full name, unique in a blueprint; by default ``module.Class``."""
    label: ClassVar[str | None] = None
    """Short name for logs and graphs; by default the name of the class."""
    requires: ClassVar[Sequence[type[Step] | str]] = ()
    """What must be started before: classes, ``"module:Class"``, or names or labels of steps of the same blueprint."""
    conditional: ClassVar[bool] = False
    """Whether the step is included only in some cases; drawn dashed."""
    last: ClassVar[bool] = False
    """Start after every step that does not itself need this one. One in a blueprint may say so."""
    blueprint: ClassVar[str] = ""
    """The only blueprint that the step fits in; empty: any."""

    enabled: bool = True
    """What ``include_if`` answers; to be set by ``__init__``."""

    def __init__(self, parent: Any, **options: Any) -> None: ...

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = f"{cls.__module__}.{cls.__qualname__}"

    def include_if(self, parent: Any, /) -> bool:
        """Whether the step is to be part of this parent."""
        return self.enabled

    def create(self, parent: Any, /) -> Any:
        """Prepare the parent; a ``StartStopStep`` may return the object whose ``start`` and ``stop`` it is to call."""

    def include(self, parent: Any, /) -> bool:
        """Create the step if it is to be included; tells whether it is."""
        if not self.include_if(parent):
            return False
        self.create(parent)
        return True

    def info(self, obj: Any, /) -> Mapping[str, Any]:
        """What the step has to say about ``obj``, its parent; merged with that of the other steps."""
        return {}

    def instantiate(self, name: Any, *args: Any, **kwargs: Any) -> Any:
        """An object of a class, or of the one of that dotted name."""
        from umbel.config.loading import load_object

        return (load_object(name) if isinstance(name, str) else name)(*args, **kwargs)

    @property
    def alias(self) -> str:
        """The short name."""
        return self.label or type(self).__name__

    def __repr__(self) -> str:
        return f"<step: {self.name}>"


class StartStopStep(Step):
    """A step that runs for as long as its parent does.

    Each hook is called with the parent. A plain function is called in a thread kept for the hooks of the worker, one
    hook at a time; an ``async def`` one runs in the worker's event loop, which it must not block. Order at the end:
    ``close`` of all, ``stop`` (or ``terminate``) of all, ``shutdown`` of all, each in reverse order of starting.
    The steps of a consumer are stopped and started again whenever the worker makes a new link to the broker.
    """

    stop_timeout: ClassVar[float | None] = 10.0
    """Seconds that each hook of stopping may take before the worker goes on without it; None: any time."""

    obj: Any = None
    """What ``create`` returned."""

    def include(self, parent: Any, /) -> bool:
        """Create the step and add it to ``parent.steps``, if it is to be included."""
        if not self.include_if(parent):
            return False
        self.obj = self.create(parent)
        parent.steps.append(self)
        return True

    def start(self, parent: Any, /) -> Any:
        """Begin; the required steps have started."""
        return self._delegate("start")

    def stop(self, parent: Any, /) -> Any:
        """End; what needs this step has stopped."""
        return self._delegate("stop")

    def terminate(self, parent: Any, /) -> Any:
        """End at once, in a cold shutdown; ``stop`` unless there is a quicker way."""
        if self._delegates("terminate"):
            return self._delegate("terminate")
        return self.stop(parent)

    def close(self, parent: Any, /) -> Any:
        """The shutdown begins: accept nothing new."""
        return self._delegate("close")

    def shutdown(self, parent: Any, /) -> Any:
        """All steps have stopped, no task runs any more, and the parent does not start again."""
        return self._delegate("shutdown")

    def acts(self, hook: str) -> bool:
        """Whether that hook does anything."""
        if hook == "terminate" and self.acts("stop"):
            return True
        return getattr(type(self), hook) is not getattr(StartStopStep, hook) or self._delegates(hook)

    def _delegates(self, hook: str) -> bool:
        return self.obj is not None and self.obj is not self and hasattr(self.obj, hook)

    def _delegate(self, hook: str) -> Any:
        return getattr(self.obj, hook)() if self._delegates(hook) else None
