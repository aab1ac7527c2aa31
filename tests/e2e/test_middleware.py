"""The example of the guide on middleware, with a real worker."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from workers import WorkerProcess

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "middleware.md"
TIMEOUT = 15


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module ``shop.py`` of the guide, here and in a worker."""
    found = re.search(r"```python title=\"shop.py\"\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found
    (tmp_path / "shop.py").write_text(found[1])
    monkeypatch.setenv("SHOP_BROKER", f"sqlite:///{tmp_path / 'shop.db'}")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    worker = WorkerProcess({"PYTHONPATH": path}, tmp_path / "log", "-c", "1", app="shop").wait_ready()
    module = importlib.import_module("shop")
    try:
        yield module
    finally:
        module.app.close()
        sys.modules.pop("shop")
        worker.kill()


def test_the_tenant_of_the_sender_is_that_of_the_task(shop: ModuleType) -> None:
    with shop.acting_for("acme"):
        results = [shop.who.delay(), shop.who_later.delay()]
    assert [result.get(timeout=TIMEOUT) for result in results] == ["acme", "acme"]
    assert shop.who.delay().get(timeout=TIMEOUT) == "nobody"


def test_it_goes_on_with_what_a_task_sends(shop: ModuleType) -> None:
    with shop.acting_for("acme"):
        sent = shop.ask_on.delay()
    inner = sent.get(timeout=TIMEOUT)
    assert shop.app.AsyncResult(inner).get(timeout=TIMEOUT) == "acme"
