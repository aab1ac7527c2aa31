"""Collections, proxies, thread-local values, pid files, signals and loaders under Celery's names."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from umbel import Umbel
from umbel.compat.celery import local, platforms
from umbel.compat.celery.loaders import get_loader_cls
from umbel.compat.celery.loaders.app import AppLoader
from umbel.compat.celery.loaders.default import Loader
from umbel.compat.celery.utils import collections, functional, objects, threads

# -- collections --


def test_layered_dicts() -> None:
    found = collections.ChainMap({"a": 1}, {"a": 2, "b": 2})
    assert (found["a"], found["b"], found.get("c"), "b" in found, len(found)) == (1, 2, None, True, 2)
    with pytest.raises(KeyError):
        found["c"]
    seen: list[Any] = []
    found.bind_to(lambda *args, **kwargs: seen.append((args, kwargs)))
    found.update(b=3)
    assert seen == [((), {"b": 3})]
    found.add_defaults({"b": 9, "d": 4})
    assert dict(found.items()) == {"a": 1, "b": 3, "d": 4}
    del found["b"]
    assert found["b"] == 9
    with pytest.raises(KeyError):
        del found["d"]
    assert found.setdefault("e", 5) == found.pop("e") == 5
    assert repr(collections.ChainMap({"a": 1}, {"b": 2})) == "ChainMap({'a': 1}, {'b': 2})"
    other = found.copy()
    other["a"] = 7
    assert found["a"] == 1


def test_settings_over_defaults() -> None:
    view = collections.ConfigurationView({"celery_a": 1}, [{"b": 2}], keys=[str.upper], prefix="celery")
    assert (view.a, view["b"], view.first("none", "b")) == (1, 2, 2)
    view.b = 3
    assert view.copy()["b"] == 3
    view.add_defaults({"C": 4})
    assert view.c == 4
    with pytest.raises(AttributeError):
        _ = view.nothing
    other = collections.ConfigurationView({"z": 1})
    other.swap_with(view)
    assert other.a == 1
    view.clear()
    assert not view


def test_attributes_as_items_and_the_other_way_round() -> None:
    found = collections.DictAttribute(objects.Bunch(a=1))
    found["b"] = 2
    assert (found["a"], found.b, found.get("c", 3), "a" in found, found.setdefault("d", 4)) == (1, 2, 3, True, 4)
    with pytest.raises(KeyError):
        found["nothing"]
    assert dict(found.items())["b"] == 2
    made = collections.AttributeDict(a=1)
    made.b = 2
    assert (made.a, made["b"]) == (1, 2)
    with pytest.raises(AttributeError):
        _ = made.nothing
    mapping = functional.lazy(lambda: {"a": 1})
    assert collections.force_mapping(mapping) == {"a": 1}
    assert collections.force_mapping(objects.Bunch(a=1))["a"] == 1
    assert collections.lpmerge({"a": 1, "b": 2}, {"a": None, "b": 3}) == {"a": 1, "b": 3}


def test_a_set_that_forgets() -> None:
    found = collections.LimitedSet(maxlen=3, data=["a", "b", "c", "d"])
    assert list(found) == ["b", "c", "d"]
    assert "a" not in found
    found.add("b")
    found.add("e")
    assert list(found) == ["d", "b", "e"]
    found.discard("nothing")
    found.pop_value("b")
    assert (len(found), found.pop(), found.pop(), found.pop("none")) == (2, "d", "e", "none")
    old = collections.LimitedSet(expires=10, minlen=1)
    old.update({"a": 100.0, "b": 101.0, "c": 200.0})
    old.purge(now=205.0)
    assert old.as_dict() == {"c": 200.0}
    old.purge(now=1000.0)
    assert len(old) == 1
    assert repr(collections.LimitedSet(3)) == "<LimitedSet(0): maxlen=3, expires=0, minlen=0>"
    again = collections.LimitedSet(data=old)
    assert again == old
    assert pickle.loads(pickle.dumps(again)) == again


def test_a_set_with_many_changes_stays_small() -> None:
    found = collections.LimitedSet(maxlen=10)
    for number in range(10_000):
        found.add(number % 5)
    assert len(found) == 5
    assert len(found._heap) < 20  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("limits", [{"minlen": 5, "maxlen": 3}, {"maxlen": -1}, {"expires": -1}, {"data": {"a": 5}}])
def test_a_set_refuses_wrong_limits(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        collections.LimitedSet(**limits)


def test_bounded_buffers() -> None:
    buffer = collections.Messagebuffer(3)
    buffer.extend([1, 2, 3, 4])
    assert repr(buffer) == "<Messagebuffer: 3/3>"
    assert (buffer.take(), list(buffer), buffer.take(None)) == (2, [3, 4], None)
    with pytest.raises(collections.Evictable.Empty):
        buffer.take()
    many = collections.BufferMap(3)
    many.put("a", 1)
    many.extend("b", [2, 3])
    many.put("c", 4)
    assert (many.total, many.take("a", None), many.take("b"), many.take("c")) == (3, None, 2, 4)
    with pytest.raises(many.Empty):
        many.take("a")


# -- proxies --


def test_a_proxy_stands_for_what_it_finds() -> None:
    current: list[Any] = [[1, 2]]
    proxy: Any = local.Proxy(lambda: current[0])
    assert proxy == [1, 2]
    assert isinstance(proxy, list)
    assert (len(proxy), proxy[0], 2 in proxy, list(proxy), proxy * 2, bool(proxy)) == (
        2,
        1,
        True,
        [1, 2],
        [1, 2, 1, 2],
        True,
    )
    proxy.append(3)
    assert current[0] == [1, 2, 3]
    assert repr(proxy) == "[1, 2, 3]"
    assert pickle.loads(pickle.dumps(proxy)) == [1, 2, 3]
    current[0] = 5
    assert (proxy + 1, 1 + proxy, proxy | 2, int(proxy), proxy > 4, -proxy) == (6, 6, 7, 5, True, -5)
    current[0] = objects.Bunch(a=1)
    proxy.b = 2
    del proxy.a
    assert vars(current[0]) == {"b": 2}
    assert local.Proxy(int, ("7",))._get_current_object() == 7


def test_a_promise_is_found_once() -> None:
    found: list[int] = []

    def find() -> int:
        found.append(1)
        return 41 + len(found)

    promise: Any = local.PromiseProxy(find)
    after: list[str] = []
    promise.__then__(after.append, "then")
    assert not promise.__evaluated__()
    assert (promise + 0, promise + 0, found, after) == (42, 42, [1], ["then"])
    assert promise.__evaluated__()
    promise.__then__(after.append, "at once")
    assert after == ["then", "at once"]
    assert local.maybe_evaluate(promise) == 42
    assert local.maybe_evaluate(3) == 3
    assert local.try_import("there_is_none", 1) == 1
    assert local.try_import("os") is os


# -- threads --


def test_values_of_a_thread() -> None:
    here, stack = threads.Local(), threads.LocalStack()
    here.name = "main"
    stack.push(1)
    stack.push(2)
    seen: list[Any] = []

    def other() -> None:
        seen.append((hasattr(here, "name"), stack.top, len(stack)))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [(False, None, 0)]
    assert (here.name, stack.stack, stack.pop(), stack.top, stack() + 1) == ("main", [1, 2], 2, 1, 2)
    assert here("name") == "main"
    threads.LocalManager([here, stack]).cleanup()
    assert (dict(here), stack.pop()) == ({}, None)
    with pytest.raises(AttributeError):
        del here.name


def test_a_thread_that_goes_on_until_it_is_stopped() -> None:
    rounds: list[int] = []
    enough = threading.Event()

    class Counting(threads.bgThread):
        def body(self) -> None:
            rounds.append(1)
            if len(rounds) > 3:
                enough.set()

    thread = Counting()
    thread.start()
    assert enough.wait(10)
    thread.stop()
    assert not thread.is_alive()


def test_a_thread_that_crashes_ends_the_process() -> None:
    code = (
        "from umbel.compat.celery.utils.threads import bgThread\nimport time\n"
        "class T(bgThread):\n    def body(self): raise ValueError('broken')\n"
        "T(name='worker').start()\ntime.sleep(30)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "'worker' crashed: ValueError('broken')" in done.stderr


# -- platforms --


def test_pid_files(tmp_path: Path) -> None:
    path = str(tmp_path / "node.pid")
    lock = platforms.Pidfile(path)
    assert lock.read_pid() is None
    with lock:
        assert lock.is_locked()
        assert lock.read_pid() == os.getpid()
        code = f"from umbel.compat.celery.platforms import create_pidlock as c; c({path!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
        assert done.returncode == platforms.EX_CANTCREAT
        assert "runs already" in done.stderr
    assert not lock.is_locked()
    Path(path).write_text("no number\n")
    with pytest.raises(ValueError, match="no number"):
        lock.read_pid()
    assert lock.remove_if_stale()
    assert not lock.is_locked()


def test_signals() -> None:
    found = platforms.signals
    assert found.signum("INT") == found.signum("SIGINT") == signal.SIGINT
    assert not found.supported("FOO")
    before = found["USR1"]
    found.ignore("USR1", "FOO")
    assert found["USR1"] is signal.SIG_IGN
    found.reset("USR1")
    assert found["USR1"] is signal.SIG_DFL
    found["USR1"] = before
    assert platforms.signal_name(signal.SIGTERM) == "SIGTERM"
    with pytest.raises(TypeError):
        found.signum("int")


def test_users_limits_and_errors() -> None:
    assert (platforms.parse_uid("root"), platforms.parse_gid("root"), platforms.parse_uid("5")) == (0, 0, 5)
    with pytest.raises(KeyError, match="nobody-of-this-name"):
        platforms.parse_uid("nobody-of-this-name")
    platforms.maybe_drop_privileges()
    assert (platforms.get_fdmax(5) or 0) > 0
    with platforms.ignore_errno("ENOENT"):
        os.stat("/there/is/none")
    with pytest.raises(FileNotFoundError), platforms.ignore_errno("EPERM"):
        os.stat("/there/is/none")
    assert platforms.get_errno_name("ENOENT") == 2
    assert platforms.isatty(3) is None
    assert platforms.set_process_title("x", "info") == "[x] info"
    assert platforms.set_mp_process_title("x", "y", "h") == "[x: h:MainProcess] y"


def test_files_by_their_paths(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("w") as file:
        assert platforms.fd_by_path([str(path)]) == [file.fileno()]


def test_a_service_in_the_background(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom umbel.compat.celery.platforms import detached\n"
        f"with detached(logfile={str(tmp_path / 'log')!r}, umask='027', workdir={str(tmp_path)!r}):\n"
        "    print('nowhere')\n"
        "    text = f'{os.getcwd()} {os.getsid(0) != os.getpgid(os.getppid())}'\n"
        "    open('part', 'w').write(text)\n    os.rename('part', 'done')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    from workers import wait_for

    found = tmp_path / "done"
    wait_for(found.exists)
    assert found.read_text().startswith(str(tmp_path))
    assert found.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "log").exists()


def test_a_fake_service_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    umask = os.umask(0o22)
    try:
        with platforms.DaemonContext(workdir=str(tmp_path), umask=0o77, fake=True):
            (tmp_path / "private").touch()
    finally:
        os.umask(umask)
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600


# -- loaders --


def test_loaders_by_name() -> None:
    assert get_loader_cls("app") is AppLoader
    assert get_loader_cls("default") is Loader
    assert get_loader_cls("umbel.compat.celery.loaders.app:AppLoader") is AppLoader


def test_a_loader_imports_and_configures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loadedconfig.py").write_text("task_serializer = 'yaml'\n")
    package = tmp_path / "loadedproj"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "tasks.py").write_text("here = True\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    app = Umbel(include=["loadedproj.tasks"], set_as_current=False)
    loader = AppLoader(app)
    assert loader.conf is app.conf
    assert loader.default_modules == {"loadedproj.tasks"}
    assert [module.here for module in loader.import_default_modules()] == [True]
    loader.autodiscover_tasks(["loadedproj"])
    assert loader.task_modules == {"loadedproj.tasks"}
    assert loader.import_task_module("loadedproj.tasks").here
    assert loader.config_from_object("loadedconfig")
    assert app.conf.task_serializer == "yaml"
    assert not loader.config_from_object("there_is_none", silent=True)
    monkeypatch.setenv("CELERY_CONFIG_MODULE", "loadedconfig")
    assert (loader.read_configuration() or {})["task_serializer"] == "yaml"
    assert Loader(app).read_configuration()["task_serializer"] == "yaml"
    monkeypatch.setenv("CELERY_CONFIG_MODULE", "there_is_none")
    assert Loader(app).read_configuration() == {}
    with pytest.raises(ModuleNotFoundError):
        Loader(app).read_configuration(fail_silently=False)


def test_settings_of_a_command_line() -> None:
    loader = AppLoader(Umbel(set_as_current=False))
    found = loader.cmdline_config_parser(
        ["worker.concurrency=(int)10", ".x=1", 'task.annotations=(dict){"a": 1}', "a=(tuple)[1]", "b=(bool)yes"]
    )
    assert found == {"worker_concurrency": 10, "celery_x": "1", "task_annotations": {"a": 1}, "a": (1,), "b": True}
    for wrong in ("nothing", "a=(foo)1"):
        with pytest.raises(ValueError):
            loader.cmdline_config_parser([wrong])
