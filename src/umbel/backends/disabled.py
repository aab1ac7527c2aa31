"""``disabled://``: no result store. What tasks return is dropped, and asking for it is an error that says so."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NoReturn

from umbel.backends.base import Backend, Features, Meta, Result
from umbel.errors import NoBackend


class DisabledBackend(Backend):
    """See the module's docstring. Whatever reads raises NoBackend; whatever writes or removes does nothing."""

    features = Features(push=False, shared=False, groups=False, knows_nothing=True)

    def encode(self, meta: Meta, *, reply_to: str = "", correlation_id: str = "") -> Result:
        return Result(meta.task_id, meta.status, b"", 0.0, reply_to, correlation_id)

    def store(self, results: Sequence[Result]) -> None:
        """Drop them."""

    def get(self, task_ids: Sequence[str]) -> dict[str, Meta]:
        _refuse()

    def wait(self, task_ids: Collection[str], timeout: float | None, on_meta: Callable[[Meta], object]) -> bool:
        _refuse()

    def subscribe(self, task_id: str, on_meta: Callable[[Meta], object]) -> Callable[[], None]:
        _refuse()

    def forget(self, task_ids: Sequence[str]) -> None:
        """Nothing is stored, so nothing is left."""

    def close(self) -> None:
        """Nothing is connected."""

    def after_fork(self) -> None:
        """Nothing is connected."""


def _refuse() -> NoReturn:
    raise NoBackend(
        "results are not stored: no result backend is configured; give the application one,"
        ' for example backend="sqlite:///results.db" or backend="redis://localhost"'
    )
