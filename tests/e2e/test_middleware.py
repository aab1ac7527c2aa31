"""The example of the guide on middleware, with a real worker."""

from __future__ import annotations

import asyncio
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
    """The module ``shop.py`` of the guide, here and in a worker; ``quota.py`` is beside it."""
    found = re.findall(r"```python title=\"(\w+\.py)\"\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert [name for name, _ in found] == ["shop.py", "quota.py"]
    for name, text in found:
        (tmp_path / name).write_text(text)
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
        sys.modules.pop("quota", None)
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


def test_async_code_asks_before_it_sends(shop: ModuleType) -> None:
    asked: list[str] = []

    async def remaining(tenant: str) -> int:
        await asyncio.sleep(0)
        asked.append(tenant)
        return 1 if tenant == "acme" else 0

    shop.app.middleware.add(importlib.import_module("quota").Quota(remaining))

    async def main() -> str:
        with shop.acting_for("broke"), pytest.raises(PermissionError, match="broke has sent enough"):
            await shop.who.adelay()
        with shop.acting_for("acme"):
            return await (await shop.who.adelay()).aget(timeout=TIMEOUT)

    assert asyncio.run(main()) == "acme"
    assert asked == ["broke", "acme"]
