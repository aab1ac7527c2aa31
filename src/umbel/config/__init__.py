"""Configuration: every setting with type, default and documentation, and where its value comes from.

``sections/`` declares the settings, ``loading`` reads the sources, ``naming`` and ``checking`` refuse what is wrong,
``settings`` offers the values, ``reference`` writes the page of documentation (``python -m umbel.config``).
"""

from umbel.config.declaring import Setting
from umbel.config.naming import UnknownSetting
from umbel.config.sections import DECLARED, OLD_NAMES, SECTIONS
from umbel.config.settings import DEFAULT, Settings

__all__ = ["DECLARED", "DEFAULT", "OLD_NAMES", "SECTIONS", "Setting", "Settings", "UnknownSetting"]
