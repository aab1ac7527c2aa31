"""A blueprint: steps in their order, included, started and stopped together."""

from __future__ import annotations

import enum
import inspect
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, ClassVar, Protocol

from umbel.bootsteps.hooks import HookThread, HookTimeout
from umbel.bootsteps.ordering import StepClass, order_steps
from umbel.bootsteps.step import StartStopStep, Step
from umbel.errors import StepError, UmbelError

logger = logging.getLogger("umbel.worker.steps")


class State(enum.IntEnum):
    """How far a blueprint is; numbers and names are Celery's."""

    INITIALIZING = 0
    RUNNING = 1
    CLOSING = 2
    TERMINATING = 3


class Parent(Protocol):
    """What a blueprint is applied to."""

    steps: list[StartStopStep]
    """The included steps that start and stop, in order; filled by ``Blueprint.apply``."""


class Blueprint:
    """Steps for one kind of parent.

    ``steps``: classes or ``"module:Class"``, added by users. ``name``: for logs and errors. ``default_steps``: the
    blueprint's own. ``hooks``: the thread in which plain hooks run; by default one of its own.
    """

    def __init__(
        self,
        steps: Iterable[StepClass | str] = (),
        name: str = "blueprint",
        *,
        default_steps: Collection[StepClass] = (),
        hooks: HookThread | None = None,
    ) -> None:
        self.name = name
        self.state = State.INITIALIZING
        self.default_steps = tuple(default_steps)
        self.included: list[Step] = []
        self._added = steps
        self._hooks = hooks or HookThread(f"umbel-{name}-steps")
        self._started: list[StartStopStep] = []
        self._ever_started: dict[StartStopStep, None] = {}

    state_to_name: ClassVar[Mapping[int, str]] = {each.value: each.name.lower() for each in State}

    @property
    def alias(self) -> str:
        """The last part of the name."""
        return self.name.rpartition(".")[2]

    @property
    def started(self) -> int:
        """How many steps have started and not stopped."""
        return len(self._started)

    def human_state(self) -> str:
        """The state as a word."""
        return self.state.name.lower()

    def order(self) -> dict[StepClass, frozenset[StepClass]]:
        """The classes in the order in which they start, with what each requires. Raises StepError."""
        return order_steps(self._added, self.name, self.default_steps)

    def apply(self, parent: Parent, **options: Any) -> None:
        """Make all steps, then include those that want to be, both in order.

        ``__init__`` gets the ``options`` that it has parameters for. Raises StepError for a step that cannot be made,
        and for steps that cannot be ordered.
        """
        order = self.order()
        logger.debug("%s: order of steps: %s", self.name, ", ".join(step.__name__ for step in order))
        made: list[Step] = [
            self._attempt(step, "be made", lambda step=step: _make(step, parent, options)) for step in order
        ]
        self.included = [
            step for step in made if self._attempt(type(step), "be created", lambda step=step: step.include(parent))
        ]

    def _attempt(self, step: StepClass, what: str, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Exception as error:
            raise self._failure(step, what, error) from error

    def _failure(self, step: StepClass, what: str, error: Exception) -> UmbelError:
        """Errors of the blueprint's own steps say by themselves what is wrong."""
        if step in self.default_steps and isinstance(error, UmbelError):
            return error
        logger.error("step %s of the %s cannot %s", step.name, self.name, what, exc_info=error)
        return StepError(f"step {step.name} of the {self.name} cannot {what}: {type(error).__name__}: {error}")

    async def start(self, parent: Parent) -> None:
        """Start the included steps in order, until ``interrupt``. Raises StepError when one cannot be started; those
        before it have to be stopped, and the blueprint's own also when they have started by half."""
        self.state = State.RUNNING
        for step in parent.steps:
            if self.state is not State.RUNNING:
                return
            logger.debug("%s: starting %s", self.name, step.alias)
            own = type(step) in self.default_steps
            if own:
                self._note(step)
            try:
                if step.acts("start"):
                    await self._hooks.call(step.start, parent)
            except Exception as error:
                raise self._failure(type(step), "be started", error) from error
            if not own:
                self._note(step)

    def _note(self, step: StartStopStep) -> None:
        self._started.append(step)
        self._ever_started[step] = None

    def interrupt(self) -> None:
        """Start no further steps."""
        if self.state is State.RUNNING:
            self.state = State.CLOSING

    async def close(self, parent: Parent) -> None:
        """Tell the started steps, the last one first, that the end begins."""
        self.state = State.CLOSING
        await self._send(parent, "close", reversed(self._started))

    async def stop(self, parent: Parent, *, terminate: Callable[[], bool] = lambda: False) -> None:
        """Stop the started steps, the last one first; ``terminate`` is asked before each. A step that fails is logged,
        and the others are stopped all the same."""
        self.state = State.TERMINATING
        stopping, self._started = self._started, []
        for step in reversed(stopping):
            await self._send(parent, "terminate" if terminate() else "stop", [step])

    async def shutdown(self, parent: Parent) -> None:
        """After all have stopped for good: the last hook of every step that was ever started."""
        await self._send(parent, "shutdown", [step for step in reversed(parent.steps) if step in self._ever_started])

    async def _send(self, parent: Parent, hook: str, steps: Iterable[StartStopStep]) -> None:
        for step in steps:
            if not step.acts(hook):
                continue
            logger.debug("%s: %s of %s", self.name, hook, step.alias)
            try:
                await self._hooks.call(getattr(step, hook), parent, timeout=step.stop_timeout)
            except HookTimeout as error:
                logger.error("%s of step %s: %s", hook, step.name, error)
            except Exception:
                logger.exception("%s of step %s failed; the others are stopped all the same", hook, step.name)

    def info(self, parent: Parent) -> dict[str, Any]:
        """What the included steps say about the parent."""
        said: dict[str, Any] = {}
        for step in self.included:
            said.update(step.info(parent))
        return said


def _make(step: StepClass, parent: Parent, options: Mapping[str, Any]) -> Step:
    parameters = inspect.signature(step).parameters.values()
    if not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        names = {each.name for each in parameters}
        options = {name: value for name, value in options.items() if name in names}
    return step(parent, **options)
