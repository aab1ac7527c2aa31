"""Addresses: normalised, taken apart, redacted; and the drivers found by them."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel import backends, brokers
from umbel.brokers import open_broker
from umbel.brokers.memory import MemoryBroker
from umbel.drivers import Builtin, open_driver
from umbel.errors import ConfigurationError, MissingExtra
from umbel.urls import normalise, parse, redact


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:pw@h:1/0", "redis://:***@h:1/0"),
        ("amqp://user@h//", "amqp://user@h//"),
        ("redis://u:p@ss/w@host/0", "redis://u:***@host/0"),
        ("redis://:p?w@host", "redis://:***@host"),
        ("redis://u:12/34@host/0", "redis://u:***@host/0"),
        ("redis://h:6379/0?name=a@b", "redis://h:6379/0?name=a@b"),
        ("redis://h/?Password=secret&x=1", "redis://h/?Password=***&x=1"),
        ("rediss://h/?ssl_keyfile_password=s&token=t", "rediss://h/?ssl_keyfile_password=***&token=***"),
        ("sqlite:////tmp/a:b@c.db", "sqlite:////tmp/a:b@c.db"),
        ("amqp://a:b@h//;amqp://c:d@h", "amqp://a:***@h//;amqp://c:***@h"),
        ("", ""),
    ],
)
def test_redact(url: str, shown: str) -> None:
    assert redact(url) == shown


@given(password=st.text(st.characters(codec="utf-8"), min_size=6).filter(lambda text: "://" not in text))
def test_no_password_is_ever_shown(password: str) -> None:
    secret = f"s3cret{password}s3cret"
    assert "s3cret" not in redact(f"redis://user:{secret}@host:6379/0")


@given(st.text())
def test_redact_takes_anything(text: str) -> None:
    redact(text)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("memory", "memory://"),
        (" Redis://h ", "redis://h"),
        ("pyamqp://h", "amqp://h"),
        ("postgres://h/db", "postgresql://h/db"),
        ("postgresql+psycopg://h/db", "postgresql+psycopg://h/db"),
        ("db+sqlite:///x.db", "sqlite:///x.db"),
        ("sqla+postgresql://h", "postgresql://h"),
        ("cache+memory://", "memory://"),
    ],
)
def test_normalise(url: str, normal: str) -> None:
    assert normalise(url) == normal


@pytest.mark.parametrize("url", ["", "://host", "user:pw@host/db", "1redis://h"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        normalise(url)
    assert "pw@" not in str(caught.value)


def test_parse() -> None:
    url = parse("amqp://us%40er:p%2Fw@Example.org:5673/v%2Fhost?heartbeat=10&name=a%20b")
    assert (url.scheme, url.username, url.password) == ("amqp", "us@er", "p/w")
    assert (url.host, url.port, url.path) == ("example.org", 5673, "v/host")
    assert url.query == {"heartbeat": "10", "name": "a b"}


def test_parse_of_a_wrong_port() -> None:
    with pytest.raises(ConfigurationError, match="port") as caught:
        parse("redis://:s3cret@host:6379x/0")
    assert "s3cret" not in str(caught.value)


def test_builtin_drivers_are_those_of_the_package() -> None:
    for group, table in (("umbel.brokers", brokers.BUILTIN), ("umbel.backends", backends.BUILTIN)):
        declared = {e.name: e.value for e in entry_points(group=group) if e.value.startswith("umbel.")}
        assert {name: driver.target for name, driver in table.items()} == declared


def test_driver_by_scheme() -> None:
    assert isinstance(open_broker("memory://tests"), MemoryBroker)
    assert isinstance(open_broker("memory"), MemoryBroker)


def test_unknown_scheme_teaches() -> None:
    with pytest.raises(ConfigurationError, match=r"did you mean redis://\?.*memory://.*postgresql://") as caught:
        open_broker("redsi://user:s3cret@host/0")
    assert "s3cret" not in str(caught.value)


def test_unknown_scheme_unlike_any_other_lists_them() -> None:
    with pytest.raises(ConfigurationError, match="known are amqp://"):
        open_broker("zzz://host")


def test_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "needs_library.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    table = {"thing": Builtin("needs_library:Driver", "thing-extra")}
    with pytest.raises(MissingExtra, match=r"no_such_library.*pip install 'umbel\[thing-extra\]'"):
        open_driver("broker", "umbel.brokers", table, "thing://", None)


def test_opening_a_builtin_driver_reads_no_package_metadata() -> None:
    code = (
        "import sys; from umbel.brokers import open_broker; open_broker('memory://'); "
        "sys.exit('importlib.metadata' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_third_party_driver_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "thirdparty-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[umbel.brokers]\nthird = umbel.brokers.memory:MemoryBroker\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert isinstance(open_broker("third://x"), MemoryBroker)
