"""Canvases as data are those of a real Celery, shape by shape; and they survive every way of writing them."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import umbel
from interop.rig import celery_python
from umbel import Umbel, signature
from umbel.codecs import dumps, loads

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
try:
    from shared.shapes import form, forms, shapes
finally:
    sys.path.remove(str(HERE))

PARTIALS = {"partial chain", "partial group"}
"""Celery drops these arguments."""

MAPS = {"map", "starmap", "chunks", "chunks as group", "visited map"}
"""Umbel names the type, so that they are read as what they were."""

LEAKS = {"visited chord of chains"}
"""Celery names stamps of one member in the others too."""


@pytest.fixture(scope="module")
def app() -> Iterator[Umbel]:
    with Umbel("shapes", broker="memory://shapes", backend="memory://shapes") as made:
        yield made


def test_forms_are_celerys(app: Umbel) -> None:
    command = [celery_python(), "-m", "shared.shapes"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, timeout=60)
    assert done.returncode == 0, done.stderr
    theirs: dict[str, Any] = json.loads(done.stdout)
    ours = forms(umbel, umbel, app)
    assert ours.keys() == theirs.keys()
    differ = {name for name in ours if ours[name] != theirs[name]}
    known = PARTIALS | MAPS | LEAKS
    assert differ == known, json.dumps({name: [ours[name], theirs[name]] for name in differ ^ known}, indent=1)


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
def test_forms_survive_being_written(app: Umbel, serializer: str) -> None:
    accept = {*app.accept(), "application/x-python-serialize", "application/x-yaml", "application/x-msgpack"}
    for name, make in shapes(umbel, umbel, app).items():
        made = make()
        written = dumps(made, serializer)
        read = signature(loads(written.body, written.content_type, written.content_encoding, accept), app=app)
        assert form(read) == form(made), name
        assert type(read) is type(made), name
        copy = pickle.loads(pickle.dumps(made))
        assert (type(copy), form(copy)) == (type(made), form(made)), name
