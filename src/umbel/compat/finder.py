"""``install_as_celery``: imports of ``celery`` are answered with Umbel's modules.

Each module of the mirror exists once. It is made under its own name (``umbel.compat.celery.app``), and an import of
``celery.app`` puts the same object into ``sys.modules`` under the other name. So classes are the same whichever name
they were imported by, in threads that import at the same time, in pickles and after ``python -m celery``.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any

from umbel.compat.missing import MODULES, NotInUmbel
from umbel.errors import ConfigurationError

MIRROR = "umbel.compat."
ALWAYS = ("celery",)
WHERE_NOT_INSTALLED = ("kombu", "billiard")
"""Small mirrors: the real packages do more, and work with Umbel too, so they are preferred."""

_lock = threading.Lock()


def install_as_celery() -> None:
    """Make ``celery`` mean Umbel in this process, whether a real Celery is installed or not.

    ``kombu`` and ``billiard`` are replaced as well where the real ones are not installed. To be called before the first
    import of ``celery``; calling it again does nothing. Raises ConfigurationError when a real Celery has been imported.
    """
    with _lock:
        if installed():
            return
        for name in ALWAYS:
            _refuse_real(name)
        small = [name for name in WHERE_NOT_INSTALLED if importlib.util.find_spec(name) is None]
        sys.meta_path.insert(0, MirrorFinder((*ALWAYS, *small)))
    _make_default_apps_celery()


def installed() -> bool:
    """Whether ``celery`` means Umbel in this process."""
    return any(isinstance(finder, MirrorFinder) for finder in sys.meta_path)


def _refuse_real(name: str) -> None:
    module = sys.modules.get(name)
    if module is not None and not module.__name__.startswith(MIRROR):
        raise ConfigurationError(
            f"install_as_celery() comes too late: the real {name} has been imported already "
            f"(from {getattr(module, '__file__', None) or 'an unknown place'}); call it before anything imports {name}"
        )


def _make_default_apps_celery() -> None:
    from umbel.current import set_default_maker

    def make() -> Any:
        base = importlib.import_module(MIRROR + "celery.app.base")
        return base.Celery("default", loader="default", set_as_current=False)

    set_default_maker(make)


class MirrorFinder(MetaPathFinder):
    """Finds ``celery.X`` as ``umbel.compat.celery.X``, for each of ``roots``."""

    def __init__(self, roots: Sequence[str]) -> None:
        self.roots = frozenset(roots)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Raises NotInUmbel (an ImportError) for modules of Celery that Umbel does not have."""
        if fullname.partition(".")[0] not in self.roots:
            return None
        own = importlib.util.find_spec(MIRROR + fullname)
        if own is None:
            if fullname in MODULES:
                raise NotInUmbel.module(fullname)
            raise ModuleNotFoundError(f"Umbel has no counterpart of the module {fullname}", name=fullname)
        spec = ModuleSpec(fullname, MirrorLoader(own), origin=own.origin)
        spec.submodule_search_locations = own.submodule_search_locations
        return spec


class MirrorLoader(Loader):
    """Gives the module of the mirror, which ``own`` describes, instead of making one."""

    def __init__(self, own: ModuleSpec) -> None:
        self._own = own

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(MIRROR + spec.name)
        self._own = module.__spec__ or self._own
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own  # the import system has put the other name's here

    def get_code(self, fullname: str) -> CodeType | None:
        """For ``python -m celery``."""
        loader: Any = self._own.loader
        return loader.get_code(MIRROR + fullname)

    def is_package(self, fullname: str) -> bool:
        return self._own.submodule_search_locations is not None
