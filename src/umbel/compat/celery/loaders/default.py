"""``celery.loaders.default``: the loader of applications that are configured by a module ``celeryconfig``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from umbel.compat.celery.loaders.base import BaseLoader

__all__ = ["DEFAULT_CONFIG_MODULE", "Loader"]

DEFAULT_CONFIG_MODULE = "celeryconfig"


class Loader(BaseLoader):
    """Reads the module that ``CELERY_CONFIG_MODULE`` names, else ``celeryconfig`` where there is one."""

    def setup_settings(self, settingsdict: Mapping[str, Any]) -> Mapping[str, Any]:
        """Override: the settings as they are to be used."""
        return settingsdict

    def read_configuration(self, fail_silently: bool = True) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The settings in the module; raises ImportError where there is none, unless ``fail_silently``."""
        name = os.environ.get("CELERY_CONFIG_MODULE") or DEFAULT_CONFIG_MODULE
        try:
            module: ModuleType = self.import_from_cwd(name)
        except ModuleNotFoundError as error:
            if not fail_silently or error.name != name:
                raise
            return self.setup_settings({})
        self.configured = True
        return self.setup_settings(vars(module))
