"""``celery.app.annotations``: what ``task_annotations`` gives for a task. Workers apply it by ``umbel.discovery``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from umbel.compat.celery.utils.functional import firstmethod, mlazy
from umbel.compat.celery.utils.imports import instantiate

__all__ = ["MapAnnotation", "prepare", "resolve_all"]

_first_of_task: Any = firstmethod("annotate")
_first_of_any: Any = firstmethod("annotate_any")


class MapAnnotation(dict[str, Any]):
    """Attributes by the names of tasks, and those of every task under ``"*"``."""

    def annotate_any(self) -> dict[str, Any] | None:
        """Those of every task."""
        return dict(self["*"]) if "*" in self else None

    def annotate(self, task: Any) -> dict[str, Any] | None:
        """Those of this task alone."""
        return dict(self[task.name]) if task.name in self else None


def prepare(annotations: Any) -> Any:
    """The value of ``task_annotations`` as a sequence of objects with ``annotate`` or ``annotate_any``.

    Names of classes are imported, and objects of them made, when they are first used.
    """
    if annotations is None:
        return ()
    several = cast("Iterable[Any]", annotations if isinstance(annotations, (list, tuple)) else (annotations,))
    return [_prepared(each) for each in several]


def _prepared(annotation: Any) -> Any:
    if isinstance(annotation, Mapping):
        return MapAnnotation(cast("Mapping[str, Any]", annotation))
    return mlazy(instantiate, annotation) if isinstance(annotation, str) else annotation


def resolve_all(anno: Any, task: Any) -> Iterator[dict[str, Any]]:
    """The first attributes for this task that are found in the sequence, then the first for every task."""
    return (found for found in (_first_of_task(anno, task), _first_of_any(anno)) if found)
