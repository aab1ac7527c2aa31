"""`install_as_celery`: one module object under two names, in every way in which modules are imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from compat.conftest import Run

INSTALL = "from umbel.compat import install_as_celery, installed; install_as_celery()\n"


def test_celery_means_umbel(python: Run) -> None:
    program = """
import sys, umbel, umbel.task
from celery import Celery, Task, shared_task, chain, current_app, uuid
from celery.app.task import Task as SameTask, Context
import celery.app.base, celery.result
assert issubclass(Celery, umbel.Umbel)
assert Task is SameTask is umbel.task.Task and shared_task is umbel.shared_task and chain is umbel.chain
assert celery.app.base.Celery is Celery and celery.result.AsyncResult is umbel.AsyncResult
assert celery.VERSION[0] == 5 and celery.__version__.startswith("5.") and "Celery" in dir(celery)
assert all(getattr(celery, name) is not None for name in celery.__all__)
"""
    python(INSTALL + program)


@pytest.mark.parametrize(
    "order",
    [
        "import umbel.compat.celery.app.task as own\nINSTALL\nimport celery.app.task as alias",
        "INSTALL\nimport celery.app.task as alias\nimport umbel.compat.celery.app.task as own",
        "INSTALL\nimport umbel.compat.celery as above\nimport celery.app.task as alias\nown = above.app.task",
        "INSTALL\nimport importlib\nalias = importlib.import_module('celery.app.task')\n"
        "own = importlib.import_module('.task', 'umbel.compat.celery.app')",
    ],
)
def test_a_module_is_one_under_both_names(python: Run, order: str) -> None:
    program = """
import sys
names = [name for name in sys.modules if name.split(".")[0] == "celery"]
assert "celery" in names and "celery.app.task" in names, names
for name in names:
    assert sys.modules[name] is sys.modules["umbel.compat." + name], name
    assert sys.modules[name].__spec__.name == "umbel.compat." + name == sys.modules[name].__name__
assert alias is own and own.Task is alias.Task
import celery
assert celery.app.task is own and celery.app is sys.modules["umbel.compat.celery.app"]
import importlib
assert importlib.reload(alias) is own
"""
    python(order.replace("INSTALL", INSTALL) + program)


def test_installing_again_does_nothing(python: Run) -> None:
    program = """
import sys
before = list(sys.meta_path)
install_as_celery()
import umbel.compat.auto
assert sys.meta_path == before and installed()
"""
    python("from umbel.compat import installed; assert not installed()\n" + INSTALL + program)


def test_a_real_celery_that_was_imported_is_an_error(python: Run, real_celery: Path) -> None:
    said = python("import celery\n" + INSTALL, path=real_celery, fails=True)
    assert "ConfigurationError: install_as_celery() comes too late" in said
    assert str(real_celery / "celery" / "__init__.py") in said


def test_an_installed_celery_is_not_looked_at(python: Run, real_celery: Path) -> None:
    program = """
import celery.app
assert not hasattr(celery, "REAL") and not hasattr(celery.app, "REAL")
try:
    import celery.beat
except ImportError as error:
    assert "scheduler" in str(error), error
"""
    python(INSTALL + program, path=real_celery)


def test_an_installed_kombu_is_preferred(python: Run, real_celery: Path) -> None:
    python(INSTALL + "import kombu, kombu.pidbox; assert kombu.REAL", path=real_celery)


def test_kombu_and_billiard_where_they_are_not_installed(python: Run) -> None:
    program = """
from kombu import Exchange, Queue, binding
from kombu.common import Broadcast
from kombu.serialization import register
from kombu.utils import symbol_by_name, uuid
from kombu.utils.json import dumps, loads
from billiard.exceptions import SoftTimeLimitExceeded
from celery.exceptions import SoftTimeLimitExceeded as Same
import umbel.codecs
assert SoftTimeLimitExceeded is Same
register("upper", lambda value: value.upper(), str.lower, "text/upper")
assert umbel.codecs.dumps("a", "upper").body == b"A"
assert loads(dumps({"a": 1})) == {"a": 1}
try:
    from kombu import Connection
except ImportError as error:
    assert "install kombu" in str(error)
else:
    raise AssertionError
"""
    python(INSTALL + program)


def test_pickles_agree(python: Run) -> None:
    program = """
import pickle, umbel.errors
from umbel.compat.celery.exceptions import QueueNotFound, SecurityError
import celery.exceptions, celery.canvas
from celery import Celery
app = Celery("proj", broker="memory://")
@app.task
def add(x, y): ...
error = pickle.loads(pickle.dumps(celery.exceptions.SecurityError("no")))
assert type(error) is SecurityError is celery.exceptions.SecurityError
# as a real Celery writes them
assert pickle.loads(b"ccelery.exceptions\\nRetry\\n.") is umbel.errors.Retry
assert pickle.loads(b"ccelery.canvas\\n_chain\\n.") is celery.canvas.chain
assert pickle.loads(b"ccelery.app.registry\\n_unpickle_task_v2\\n(V" + add.name.encode() + b"\\ntR.") is add
made = pickle.loads(pickle.dumps(add.s(1, 2) | add.s(3)))
assert isinstance(made, celery.canvas.chain) and pickle.loads(pickle.dumps(add)) is add
"""
    python(INSTALL + program)


def test_threads_that_import_at_once_get_the_same_modules(python: Run) -> None:
    program = """
import importlib, sys, threading
names = ["celery.app.task", "umbel.compat.celery.app.task", "celery.worker.consumer", "celery",
         "umbel.compat.celery.worker.consumer", "celery.result", "umbel.compat.celery.result", "celery.bin.worker"]
barrier, found, failed = threading.Barrier(24), {}, []
def work(number):
    barrier.wait()
    try:
        for name in names[number % 8:] + names[:number % 8]:
            found.setdefault(name.removeprefix("umbel.compat."), set()).add(id(importlib.import_module(name)))
    except BaseException as error:
        failed.append(error)
sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=work, args=(number,)) for number in range(24)]
for thread in threads: thread.start()
for thread in threads: thread.join(30)
assert not failed, failed
assert {len(ids) for ids in found.values()} == {1}, found
"""
    python(INSTALL + program)


def test_python_m_celery(python: Run, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import umbel.compat.auto\n")
    (tmp_path / "proj.py").write_text(
        "from celery import Celery\napp = Celery('proj', broker='memory://')\n@app.task\ndef add(x, y): return x + y\n"
    )
    assert "umbel 0" in python("", path=tmp_path, arguments=("-m", "celery", "--version"))
    out = python("", path=tmp_path, arguments=("-m", "celery", "-A", "proj", "report", "--json"))
    assert '"broker": "memory://' in out


MISSING = {
    "import celery.beat": "no scheduler",
    "from celery.beat import PersistentScheduler": "no scheduler",
    "import celery.events.state": "do not publish events",
    "from celery.app.trace import build_tracer": "no tracer",
    "from celery.exceptions import WorkerShutdown": "send it a signal",
    "from celery.worker.consumer import Gossip": "do not gossip",
    "import celery.backends.mongodb": "no driver",
}


def test_what_is_missing_says_why(python: Run) -> None:
    program = """
from umbel.compat.missing import NotInUmbel
for statement, why in MISSING.items():
    try:
        exec(statement)
    except NotInUmbel as error:
        assert why in str(error) and "celery-compatibility.md" in str(error), error
    else:
        raise AssertionError(statement)
"""
    python(f"{INSTALL}MISSING = {MISSING!r}\n{program}")


def test_imports_of_what_is_missing_can_be_guarded(python: Run) -> None:
    program = """
for statement in ("import celery.beat", "from celery.exceptions import WorkerShutdown", "import celery.nonsense",
                  "from celery import nonsense"):
    try:
        exec(statement)
    except ImportError:
        continue
    raise AssertionError(statement)
import celery
assert not hasattr(celery, "nonsense")
"""
    python(INSTALL + program)


def test_the_default_application_is_celerys(python: Run, tmp_path: Path) -> None:
    (tmp_path / "celeryconfig.py").write_text("broker_url = 'memory://'\ntask_default_queue = 'mine'\n")
    program = """
from celery import Celery, current_app, shared_task
@shared_task
def add(x, y): return x + y
assert isinstance(current_app._get_current_object(), Celery)
assert current_app.conf.task_default_queue == "mine" and add.app.conf.broker_url == "memory://"
"""
    python(INSTALL + program, path=tmp_path)
