"""Commands of ``umbel`` run in this process, on an application that a test has made."""

from __future__ import annotations

import sys
import types
from typing import Any

from click.testing import CliRunner, Result

from umbel import Umbel
from umbel.cli import umbel
from umbel.message import new_id

MODULE = "an_application_of_a_test"


def memory_app(**settings: Any) -> Umbel:
    """An application whose broker and results live in this process."""
    place = f"memory://{new_id()}"
    return Umbel("proj", **{"broker": place, "backend": place, "set_as_current": False, **settings})


def run(app: Umbel, *arguments: str, answer: str | None = None) -> Result:
    """``umbel -A … ARGUMENTS``; ``answer`` is what standard input says."""
    module = types.ModuleType(MODULE)
    module.__dict__["app"] = app
    sys.modules[MODULE] = module
    try:
        return CliRunner().invoke(umbel, ["-A", MODULE, *arguments], input=answer)
    finally:
        del sys.modules[MODULE]
