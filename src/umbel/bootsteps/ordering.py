"""The order of steps: requirements resolved to classes, sorted so that each starts after what it needs."""

from __future__ import annotations

import graphlib
import importlib
from collections.abc import Collection, Iterable, Mapping

from umbel.bootsteps.step import Step
from umbel.errors import StepError

StepClass = type[Step]

_CELERY = "celery.worker"


def order_steps(
    steps: Iterable[StepClass | str], blueprint: str, own: Collection[StepClass] = ()
) -> dict[StepClass, frozenset[StepClass]]:
    """Steps and what they require, each after what it needs, with an order that does not change between runs.

    ``own`` are the steps of the blueprint itself, the rest those that users added; one that is required and not among
    them is added. Raises StepError for what is no step, an unknown requirement and a circle.
    """
    found = _Resolver(blueprint, own)
    for step in [*own, *sorted((found.step(each, "app.steps") for each in steps), key=_name)]:
        found.add(step)
    return _sorted(found.requirements, blueprint, own)


class _Resolver:
    """Turns what ``requires`` says into classes."""

    def __init__(self, blueprint: str, own: Collection[StepClass]) -> None:
        self.blueprint = blueprint
        self.own = own
        self.named: dict[str, StepClass] = {}
        self.requirements: dict[StepClass, frozenset[StepClass]] = {}

    def add(self, step: StepClass) -> None:
        if step in self.requirements:
            return
        if step.blueprint not in ("", self.blueprint):
            raise StepError(
                f"step {step.name} belongs to the {step.blueprint}, so it can be no step of the {self.blueprint}, "
                "and no step there can require it"
            )
        self.requirements[step] = frozenset()
        self.named |= {step.name: step, step.__name__: step, step.label or step.__name__: step}
        needed = [self.step(each, step.name) for each in step.requires]
        for each in needed:
            self.add(each)
        self.requirements[step] = frozenset(needed)

    def step(self, given: object, where: str) -> StepClass:
        if isinstance(given, str):
            return self._by_name(given, where)
        if isinstance(given, type) and issubclass(given, Step):
            return given
        raise StepError(f"{where} names {given!r}, which is neither a class of steps nor the name of one")

    def _by_name(self, name: str, where: str) -> StepClass:
        module, colon, attribute = name.partition(":")
        if not colon and "." not in name:
            return self._in_blueprint(name, name, where)
        if not colon:
            module, _, attribute = name.rpartition(".")
        if name in self.named:
            return self.named[name]
        if module == _CELERY or module.startswith(_CELERY + "."):
            return self._in_blueprint(attribute, name, where)
        try:
            found: object = getattr(importlib.import_module(module), attribute, None)
        except ModuleNotFoundError as error:
            raise StepError(f"{where} asks for {name!r}, but there is no module {error.name!r}") from error
        if not (isinstance(found, type) and issubclass(found, Step)):
            raise StepError(f"{where} asks for {name!r}, which is no class of steps")
        return found

    def _in_blueprint(self, short: str, name: str, where: str) -> StepClass:
        found = self.named.get(short)
        if found is None:
            known = ", ".join(dict.fromkeys(step.__name__ for step in [*self.own, *self.requirements]))
            raise StepError(f"{where} asks for {name!r}, but the {self.blueprint} has no such step; it has {known}")
        return found


def _sorted(
    requirements: Mapping[StepClass, frozenset[StepClass]], blueprint: str, own: Collection[StepClass]
) -> dict[StepClass, frozenset[StepClass]]:
    edges = dict(requirements)
    last = [step for step in requirements if step.last]
    if len(last) > 1:
        names = " and ".join(step.name for step in last)
        raise StepError(f"only one step of the {blueprint} can be the last: {names}")
    for step in last:
        needing = _needing(step, requirements)
        edges[step] = frozenset(other for other in requirements if other not in needing)
    sorter = graphlib.TopologicalSorter(edges)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        circle = " requires ".join(step.name for step in reversed(error.args[1]))
        raise StepError(f"steps of the {blueprint} require each other in a circle: {circle}") from error
    order: list[StepClass] = []
    while sorter.is_active():
        ready = sorter.get_ready()
        order += sorted(ready, key=lambda step: (step not in own, step.name))
        sorter.done(*ready)
    return {step: requirements[step] for step in order}


def _needing(step: StepClass, requirements: Mapping[StepClass, frozenset[StepClass]]) -> set[StepClass]:
    """The step and all that need it."""
    found: set[StepClass] = {step}
    size = 0
    while size != len(found):
        size = len(found)
        found |= {other for other, needed in requirements.items() if needed & found}
    return found


def _name(step: StepClass) -> str:
    return step.name
