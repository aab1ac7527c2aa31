"""Where the interoperation tests run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from interop.rig import Rig, rig


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A broker for all tests of a module, without workers yet."""
    with rig(request.param, tmp_path_factory.mktemp("interop")) as made:
        yield made
