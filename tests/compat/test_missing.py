"""What is said to be missing is missing, and all of Celery's modules are either there or said to be missing."""

from __future__ import annotations

import importlib
import importlib.util

import pytest

from umbel.compat.finder import MIRROR
from umbel.compat.missing import MODULES, NAMES, NotInUmbel
from umbel.compat.table.names import documented_modules


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_missing_module_is_not_there(module: str) -> None:
    try:
        assert importlib.util.find_spec(MIRROR + module) is None
    except ModuleNotFoundError:
        pass  # the package that it would be in is missing too


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in NAMES.items() for name in names])
def test_a_missing_name_is_not_there(module: str, name: str) -> None:
    with pytest.raises(NotInUmbel):
        getattr(importlib.import_module(MIRROR + module), name)


@pytest.mark.parametrize("module", sorted(documented_modules()))
def test_a_documented_module_is_there_or_said_to_be_missing(module: str) -> None:
    above = [module.rsplit(".", count)[0] for count in range(module.count(".") + 1)]
    if not MODULES.keys() & set(above):
        assert importlib.import_module(MIRROR + module)
