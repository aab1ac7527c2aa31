"""Wrong settings, servers that cannot be had, full disks: one clear line, and nothing lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import services
from oddities import QUEUE, Node
from umbel import Umbel
from umbel.errors import OperationalError, UmbelError
from workers import TESTS, WorkerProcess, wait_for

PLAIN = {key: value for key, value in os.environ.items() if not key.startswith("UMBEL_") and key != "NO_COLOR"}


def worker(*arguments: str, cwd: Path = TESTS, app: str = "apps.odd", **environment: str) -> tuple[int, str]:
    """``umbel worker`` that is to end by itself: exit status and standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "umbel", "-A", app, "worker", "--quiet", *arguments],
        cwd=cwd,
        env=PLAIN | {"LEDGER_BROKER": f"sqlite:///{cwd / 'never.db'}"} | environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.returncode, done.stderr


def check_one_line(outcome: tuple[int, str], *words: str) -> None:
    code, text = outcome
    assert code != 0
    lines = text.splitlines()
    assert len(lines) == 1 and lines[0].startswith("umbel: "), text
    for word in words:
        assert word in text


@pytest.fixture
def project(tmp_path: Path) -> Callable[[str], Path]:
    """``project(source)`` writes the module ``proj`` and returns its directory."""

    def write(source: str) -> Path:
        (tmp_path / "proj.py").write_text(source)
        return tmp_path

    return write


# -- settings --------------------------------------------------------------------------------------


def test_a_misspelt_setting_in_the_environment() -> None:
    check_one_line(worker(UMBEL_TASK_SERIALISER="json"), "UMBEL_TASK_SERIALISER", "Did you mean", "TASK_SERIALIZER")


@pytest.mark.parametrize("broker", ["rediss://127.0.0.1:1/0", "amqps://127.0.0.1:1"])
def test_missing_tls_files(broker: str) -> None:
    outcome = worker(LEDGER_BROKER=broker, UMBEL_BROKER_USE_SSL='{"ca_certs": "none.pem"}')
    check_one_line(outcome, "none.pem", "No such file")


@pytest.mark.parametrize(
    "source",
    [
        "from umbel import Umbel\napp = Umbel('proj', task_serialiser='json')\n",
        "from umbel import Umbel\napp = Umbel('proj')\napp.conf.task_serialiser = 'json'\n",
        "from umbel import Umbel\napp = Umbel('proj')\napp.conf.update(task_serialiser='json')\n",
        "from umbel import Umbel\nclass C: task_serialiser = 'json'\napp = Umbel('proj')\napp.config_from_object(C)\n",
    ],
    ids=["keyword", "attribute", "update", "object"],
)
def test_a_misspelt_setting_in_the_application(project: Callable[[str], Path], source: str) -> None:
    here = project(source)
    check_one_line(worker(cwd=here, app="proj"), "task_serialiser", "Did you mean", "task_serializer")


def test_a_setting_of_the_wrong_type() -> None:
    check_one_line(worker(UMBEL_WORKER_CONCURRENCY="many"), "worker_concurrency", "many")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("rate_limit='ten/m'", ["rate_limit of task proj.f", "'ten/m' is no rate limit"]),
        ("rate_limit=1, rate_limit_key='{tennant}'", ["rate_limit_key", "names no parameter", "'tennant'", "tenant"]),
        ("rate_limit=1, rate_limit_scope='galaxy'", ["rate_limit_scope", "galaxy", "worker, cluster"]),
    ],
)
def test_limits_that_mean_nothing(project: Callable[[str], Path], options: str, words: list[str]) -> None:
    source = f"from umbel import Umbel\napp = Umbel('proj')\n@app.task({options})\ndef f(tenant): ...\n"
    check_one_line(worker(cwd=project(source), app="proj"), *words)


def test_a_limit_for_the_cluster_without_a_store(project: Callable[[str], Path]) -> None:
    source = (
        "from umbel import Umbel\napp = Umbel('proj', broker='amqp://guest@127.0.0.1:1//', backend='rpc://')\n"
        "@app.task(rate_limit=1, rate_limit_scope='cluster')\ndef f(): ...\n"
    )
    check_one_line(
        worker(cwd=project(source), app="proj"), "proj.f", "needs a store that all workers share", "RPCBackend"
    )


# -- modules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("app", "words"),
    [
        ("no_such_module", ["no_such_module"]),
        ("apps.odd:nothing", ["apps.odd", "nothing"]),
        ("apps.odd.app.deeper", ["apps.odd"]),
        ("workers", ["workers", "no application"]),
        ("apps/odd.py", ["file", "module"]),
    ],
)
def test_an_application_that_is_not_there(app: str, words: list[str]) -> None:
    code, text = worker(app=app)
    assert code != 0 and "Traceback" not in text
    assert all(word in text for word in words) and len(text.splitlines()) <= 4


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("import no_such_package_anywhere\n", "no_such_package_anywhere"),
        ("1 / 0\n", "ZeroDivisionError"),
    ],
    ids=["syntax", "import", "error"],
)
def test_a_task_module_that_cannot_be_imported_is_shown_with_its_place(
    project: Callable[[str], Path], source: str, word: str
) -> None:
    code, text = worker(cwd=project(source), app="proj")
    assert code != 0
    assert word in text and "proj.py" in text and "line 1" in text


def test_an_included_module_that_cannot_be_imported_ends_the_worker(project: Callable[[str], Path]) -> None:
    here = project("from umbel import Umbel\napp = Umbel('proj', include=['other'])\n")
    (here / "other.py").write_text("def broken(:\n")
    code, text = worker(cwd=here, app="proj")
    assert code != 0 and "SyntaxError" in text and "other.py" in text


# -- servers ---------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


SCHEMES = [
    "redis://127.0.0.1:{}/0",
    "amqp://127.0.0.1:{}//",
    "postgresql://x@127.0.0.1:{}/x",
    "mysql://x@127.0.0.1:{}/x",
]
scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda url: urlsplit(url).scheme)


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        yield server.getsockname()[1]


@scheme
def test_a_broker_that_is_not_there_at_the_start_is_tried_again(scheme: str, tmp_path: Path) -> None:
    url = scheme.format(free_port())
    node = WorkerProcess({"LEDGER_BROKER": url, "LEDGER_FILE": ""}, tmp_path / "log", "-c", "1", app="apps.odd")
    try:
        wait_for(lambda: node.output().count("the broker cannot be reached, trying again in") >= 2, 20, node.output())
        assert node.process.poll() is None
        assert url.split("@")[-1].split("/")[2 if "@" not in url else 0] in node.output()
        assert "Traceback" not in node.output()
        started = time.monotonic()
        node.stop()
        assert time.monotonic() - started < 6
    finally:
        node.kill()


@scheme
def test_a_broker_that_is_not_there_ends_the_worker_if_it_is_told_so(scheme: str) -> None:
    url = scheme.format(free_port())
    outcome = worker(LEDGER_BROKER=url, UMBEL_BROKER_CONNECTION_RETRY_ON_STARTUP="false")
    check_one_line(outcome, "127.0.0.1")


@scheme
@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_delay_fails_in_time_with_a_typed_error_when_the_broker_is_not_there(scheme: str, kind: str) -> None:
    """Pain 19: delay() hangs for ever when the broker is down."""
    with silent_server() if kind == "silent" else contextlib.nullcontext(free_port()) as port:
        app = Umbel("lost", broker=scheme.format(port), publish_timeout=1.5, set_as_current=False)
        started = time.monotonic()
        with pytest.raises(OperationalError, match=r"127\.0\.0\.1"):
            app.send_task("any.task")
        assert time.monotonic() - started < 3
        app.close()


def test_a_worker_works_as_soon_as_its_broker_is_there(
    private_server: Callable[[str], services.PrivateServer], tmp_path: Path
) -> None:
    server = private_server("redis-durable")
    node = Node("redis", (server.url, server.url), tmp_path)
    try:
        server.stop()
        log = tmp_path / "waiting.log"
        waiting = WorkerProcess(node.environment, log, "-c", "1", app="apps.odd")
        node.workers.append(waiting)
        wait_for(lambda: "trying again" in waiting.output(), 20)
        server.start()
        waiting.wait_ready()
        node.check_healthy()
    finally:
        node.close()


def wrong_password(system: str) -> str:
    parts = urlsplit(services.base_url(system))
    port = parts.port or 0
    user = {"redis": "nobody", "rabbitmq": parts.username or "guest", "mariadb": "nobody"}[system]
    return parts._replace(netloc=f"{user}:sesame@{parts.hostname}:{port}").geturl()


@pytest.mark.parametrize("system", ["redis", "rabbitmq", "mariadb"])
def test_a_wrong_password_is_told_and_not_shown(system: str, tmp_path: Path) -> None:
    url = wrong_password(system)
    app = Umbel("denied", broker=url, publish_timeout=3, set_as_current=False)
    with pytest.raises(UmbelError) as caught:
        app.send_task("any.task")
    app.close()
    assert "sesame" not in str(caught.value)
    assert any(word in str(caught.value).lower() for word in ("password", "denied", "refused", "auth")), caught.value

    log = tmp_path / "log"
    node = WorkerProcess({"LEDGER_BROKER": url, "LEDGER_FILE": ""}, log, "-c", "1", app="apps.odd")
    try:
        wait_for(lambda: node.process.poll() is not None or "trying again" in node.output(), 20, "told")
        assert "sesame" not in node.output() and "Traceback" not in node.output()
        if node.process.poll() is not None:
            assert node.process.returncode != 0 and len(node.output().splitlines()) <= 2, node.output()
    finally:
        node.kill()


# -- a full disk -----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True
    )
    if not mounted or mounted.returncode:
        services.unavailable("a small file system is needed: mount is not permitted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> Path:
    """A file that takes all the room there is, to the last byte."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)
    return ballast


def test_a_full_disk_loses_nothing_and_work_goes_on_when_there_is_room(small_disk: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{small_disk / 'umbel.db'}"
    node = Node("sqlite", (url, url), tmp_path)
    node.tasks.app.conf.publish_timeout = 2
    try:
        worker = node.worker
        before = [node.tasks.add.delay(number, 1) for number in range(10)]
        assert [result.get(timeout=10) for result in before] == list(range(1, 11))

        ballast = fill(small_disk)
        started = time.monotonic()
        with pytest.raises(OperationalError, match="full"):
            for _ in range(200):
                node.tasks.length.delay("x" * 20_000)
        assert time.monotonic() - started < 20
        assert worker.process.poll() is None

        ballast.unlink()
        after = [node.tasks.add.delay(number, 2) for number in range(10)]
        assert [result.get(timeout=20) for result in after] == list(range(2, 12))
        assert [result.get(timeout=5) for result in before] == list(range(1, 11))
        node.check_healthy()
    finally:
        node.close()


def test_results_wait_in_the_worker_while_the_disk_is_full(small_disk: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{small_disk / 'umbel.db'}"
    node = Node("sqlite", (url, url), tmp_path)
    try:
        worker = node.worker
        assert node.tasks.add.delay(1, 1).get(timeout=10) == 2
        results = [node.tasks.big.delay(1.0, 300_000) for _ in range(3)]
        wait_for(lambda: node.broker.size(QUEUE).held >= 1, 10)
        ballast = fill(small_disk)
        wait_for(lambda: "full" in worker.output(), 20, worker.output())
        assert worker.process.poll() is None
        ballast.unlink()
        assert [len(result.get(timeout=30)) for result in results] == [300_000] * 3
        node.check_healthy()
    finally:
        node.close()
