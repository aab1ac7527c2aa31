"""Every serializer there and back, what is refused, and that reading is safe."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import pickle
import subprocess
import sys
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.codecs import Encoded, accept_set, dumps, loads, register_serializer, registry, serializer, typed_json
from umbel.errors import ConfigurationError, ContentDisallowed, DecodeError, EncodeError, MissingExtra

NAMES = ["json", "pickle", "yaml", "msgpack"]
JSON = "application/json"


def there_and_back(value: Any, name: str) -> Any:
    encoded = dumps(value, name)
    return loads(encoded.body, encoded.content_type, encoded.content_encoding, accept_set([name]))


scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
plain = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=25)
typed = st.recursive(
    scalars
    | st.integers()
    | st.datetimes(timezones=st.none() | st.just(dt.UTC))
    | st.dates()
    | st.times()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.binary()
    | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=15,
)
yaml_text = st.text(st.characters(min_codepoint=32, max_codepoint=0x24F, exclude_characters="\x7f\x85\xa0"))
yaml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | yaml_text | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(yaml_text, inner),
    max_leaves=15,
)


@given(typed)
def test_json_round_trip(value: Any) -> None:
    assert there_and_back(value, "json") == value


@given(plain)
def test_msgpack_round_trip(value: Any) -> None:
    assert there_and_back(value, "msgpack") == value


@given(typed)
def test_pickle_round_trip(value: Any) -> None:
    assert there_and_back(value, "pickle") == value


@given(yaml_values)
def test_yaml_round_trip(value: Any) -> None:
    assert there_and_back(value, "yaml") == value


@given(st.binary(max_size=60), st.sampled_from(["json", "yaml", "msgpack"]))
def test_arbitrary_bytes_decode_or_raise_decode_error(body: bytes, name: str) -> None:
    entry = serializer(name)
    try:
        loads(body, entry.content_type, entry.content_encoding, {name})
    except DecodeError:
        pass


@pytest.mark.parametrize("name", NAMES)
def test_a_task_body_as_every_serializer(name: str) -> None:
    body = ((1, "zwölf", None), {"k": [1.5, True]}, {"callbacks": None})
    expected = body if name == "pickle" else json.loads(json.dumps(body))
    assert there_and_back(body, name) == expected


# -- JSON ------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = dt.date(2026, 1, 2)


class Size(enum.StrEnum):
    BIG = "big"


class Level(enum.IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()


@dataclasses.dataclass
class Point:
    x: int
    when: dt.date


class Pair(msgspec.Struct, rename="camel"):
    left_side: int


class Signature(dict[str, Any]):
    pass


class Custom:
    def __json__(self) -> Any:
        return {"at": dt.time(1, 2)}


Named = collections.namedtuple("Named", "a b")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Colour.RED, {"__type__": "date", "__value__": "2026-01-02"}),
        (Size.BIG, "big"),
        (Level.HIGH, 3),
        (Text("t"), "t"),
        (Point(1, dt.date(2026, 1, 2)), {"x": 1, "when": {"__type__": "date", "__value__": "2026-01-02"}}),
        (Pair(1), {"leftSide": 1}),
        (Signature(task="a"), {"task": "a"}),
        (Custom(), {"at": {"__type__": "time", "__value__": "01:02:00"}}),
        (Named(1, 2), [1, 2]),
        ((1, (2,)), [1, [2]]),
        ({1: 1, None: 2, 1.5: 3, False: 4}, {"1": 1, "null": 2, "1.5": 3, "false": 4}),
        (bytearray(b"ab"), {"__type__": "bytes", "__value__": "ab"}),
        (memoryview(b"\xff\x00"), {"__type__": "base64", "__value__": "/wA="}),
        (uuid.UUID(int=5), {"__type__": "uuid", "__value__": {"hex": f"{5:032x}"}}),
        (decimal.Decimal("1.50"), {"__type__": "decimal", "__value__": "1.50"}),
        (
            dt.datetime(2026, 1, 2, 3, 4, 5, 6, dt.UTC),
            {"__type__": "datetime", "__value__": "2026-01-02T03:04:05.000006+00:00"},
        ),
        (2**200, 2**200),
        ("\ud800", "\ud800"),
    ],
)
def test_json_form(value: Any, written: Any) -> None:
    assert json.loads(dumps(value, "json").body) == written


def test_json_takes_attrs_classes() -> None:
    field = collections.namedtuple("field", "name")
    made = type("Made", (), {"__attrs_attrs__": (field("a"),), "a": 1})()
    assert dumps(made, "json").body == b'{"a":1}'


def test_json_writes_non_numbers_as_python_does() -> None:
    body = dumps([math.nan, math.inf, -math.inf], "json").body
    assert body == b"[NaN,Infinity,-Infinity]"
    back = loads(body, JSON, "utf-8", {"json"})
    assert math.isnan(back[0])
    assert back[1:] == [math.inf, -math.inf]


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"\\u005f_type__":"date","__value__":"2026-01-02"}', dt.date(2026, 1, 2)),
        (b'{"__t\\u0079pe__":"date","__value__":"2026-01-02"}', dt.date(2026, 1, 2)),
        (
            b'{"__type__":"date","__value__":"2026-01-02","x":1}',
            {"__type__": "date", "__value__": "2026-01-02", "x": 1},
        ),
        (b'{"__type__":"datetime","__value__":"2026-01-01T00:00:00Z"}', dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
        (b'"caf\\u00e9"', "café"),
        (b"1e999", math.inf),
        (b'"\\ud800"', "\ud800"),
        (b" [1] ", [1]),
        (b'{"a":1,"a":2}', {"a": 2}),
    ],
)
def test_json_reads_as_celery_does(body: bytes, value: Any) -> None:
    assert loads(body, JSON, "utf-8", {"json"}) == value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1,]",
        b"[1] x",
        b'"\xff"',
        b"\xef\xbb\xbf[1]",
        b'"a\tb"',
        b"[" * 100_000,
        b"1" * 5000,
        b'{"__type__":"nonsense","__value__":1}',
        b'{"__type__":["datetime"],"__value__":1}',
        b'{"__type__":"date","__value__":"zz"}',
        b'{"__type__":"decimal","__value__":"zz"}',
        b'{"__type__":"uuid","__value__":"5"}',
        b'{"__type__":"base64","__value__":"*"}',
        b'{"__type__":"bytes","__value__":5}',
    ],
    ids=lambda body: body[:40],
)
def test_malformed_json(body: bytes) -> None:
    with pytest.raises(DecodeError, match="json"):
        loads(body, JSON, "utf-8", {"json"})


def test_json_in_another_encoding() -> None:
    assert loads('"é"'.encode("latin-1"), JSON, "latin-1", {"json"}) == "é"
    with pytest.raises(DecodeError):
        loads(b"1", JSON, "no-such-encoding", {"json"})


def test_own_json_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed_json, "_writers", dict(typed_json._writers))
    monkeypatch.setattr(typed_json, "_readers", dict(typed_json._readers))
    typed_json.register_type(complex, "complex", lambda c: [c.real, c.imag], lambda v: complex(*v))
    assert there_and_back([1 + 2j], "json") == [1 + 2j]
    typed_json._writer_of.clear()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, {2}]}, r"json cannot serialize \{2\} \(set\) at \['a'\]\[1\]: .*pass a list"),
        ([[], {"k": object()}], r"\(object\) at \[1\]\['k'\]"),
        (({(1, 2): 3},), r"the key \(1, 2\) \(tuple\) at \[0\]"),
        (dt.timedelta(1), r"total_seconds"),
        (10**5000, r"4300"),
    ],
    ids=["set", "object", "key", "timedelta", "digits"],
)
def test_unserializable_values_are_named(value: Any, message: str) -> None:
    with pytest.raises(EncodeError, match=message):
        dumps(value, "json")


@pytest.mark.parametrize("name", ["json", "msgpack"])
def test_circular_values(name: str) -> None:
    loop: list[Any] = []
    loop.append({"again": loop})
    with pytest.raises(EncodeError, match="contains itself"):
        dumps(loop, name)


@pytest.mark.parametrize("name", NAMES)
def test_every_serializer_names_the_place(name: str) -> None:
    with pytest.raises(EncodeError, match=rf"{name} cannot serialize .*at \['a'\]\[1\]"):
        dumps({"a": [1, lambda: None]}, name)


# -- the others ------------------------------------------------------------------------------------


def test_msgpack_formats() -> None:
    when = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    assert dumps(["a", b"b"], "msgpack").body == b"\x92\xa1a\xc4\x01b"
    assert there_and_back(when, "msgpack") == when
    assert there_and_back([Text("t"), Level.HIGH, Signature(a=1), Custom.__name__], "msgpack") == [
        "t",
        3,
        {"a": 1},
        "Custom",
    ]


@pytest.mark.parametrize("body", [b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 100_000, b"", b"\xc1"])
def test_malformed_msgpack(body: bytes) -> None:
    with pytest.raises(DecodeError):
        loads(body, "application/x-msgpack", "binary", {"msgpack"})


def test_yaml_takes_subclasses_and_refuses_objects() -> None:
    value = {"a": (1, Text("t")), "s": Signature(b=collections.OrderedDict(c=1))}
    assert there_and_back(value, "yaml") == {"a": [1, "t"], "s": {"b": {"c": 1}}}
    with pytest.raises(DecodeError):
        loads(b"!!python/object/apply:os.system ['true']", "application/x-yaml", "utf-8", {"yaml"})


def test_raw_and_text() -> None:
    assert dumps("é", "raw") == Encoded("application/data", "utf-8", "é".encode())
    assert dumps(b"\xff", "raw") == Encoded("application/data", "binary", b"\xff")
    assert dumps("é", "text") == Encoded("text/plain", "utf-8", "é".encode())
    assert loads(b"\xff", "application/data", "binary", ()) == b"\xff"
    assert loads("é".encode(), None, None, ()) == "é"
    assert loads("é".encode(), "text/plain", "utf-8", {"text"}) == "é"
    with pytest.raises(ContentDisallowed):
        loads(b"a", "text/plain", "utf-8", {"json"})
    with pytest.raises(EncodeError):
        dumps({}, "raw")


def test_pickle_protocol() -> None:
    code = "from umbel.codecs import dumps; print(dumps([], 'pickle').body[1])"
    for env, expected in (({}, "4"), ({"PICKLE_PROTOCOL": "5"}, "5")):
        out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert out.stdout.strip() == expected


# -- the registry ----------------------------------------------------------------------------------


class Boom:
    ran = False

    def __reduce__(self) -> Any:
        return setattr, (Boom, "ran", True)


def test_nothing_is_decoded_unless_accepted() -> None:
    body = pickle.dumps(Boom())
    for accept in ((), {"json"}, accept_set(["json", "yaml"])):
        with pytest.raises(ContentDisallowed, match="pickle"):
            loads(body, "application/x-python-serialize", "binary", accept)
    with pytest.raises(ContentDisallowed):
        loads(b"not zlib", "application/x-python-serialize", "binary", {"json"}, "application/x-gzip")
    assert not Boom.ran
    loads(body, "application/x-python-serialize", "binary", {"pickle"})
    assert Boom.ran


@pytest.mark.parametrize("body", [b"", b"\x80\x04", b"garbage", b"cno.such.module\nx\n.", b"\x80\x04K\x01K\x02R."])
def test_malformed_pickle(body: bytes) -> None:
    with pytest.raises(DecodeError):
        loads(body, "application/x-python-serialize", "binary", {"pickle"})


def test_accept_takes_names_and_content_types() -> None:
    assert accept_set(["json", "application/x-yaml"]) == {"application/json", "application/x-yaml"}
    for accept in ({"json"}, ["application/json"], ("application/json",)):
        assert loads(b"1", JSON, "utf-8", accept) == 1
    assert loads(b"1", "Application/JSON; charset=utf-8", "utf-8", {"json"}) == 1
    with pytest.raises(ConfigurationError, match="did you mean 'msgpack'"):
        accept_set(["msgpak"])


def test_unknown_serializers() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'json'"):
        dumps(1, "jsn")
    with pytest.raises(ConfigurationError, match="known are json"):
        serializer("zzzzzz")
    with pytest.raises(DecodeError, match="application/x-unheard"):
        loads(b"", "application/x-unheard", "utf-8", {"application/x-unheard"})
    with pytest.raises(ContentDisallowed):
        loads(b"", "application/x-unheard", "utf-8", {"json"})
    assert serializer("application/json").name == "json"


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.setattr(registry.plain, "_yaml", registry.plain._yaml.__wrapped__)
    for use in (
        lambda: serializer("yaml"),
        lambda: dumps(1, "yaml"),
        lambda: loads(b"1", "application/x-yaml", "utf-8", {"yaml"}),
    ):
        with pytest.raises(MissingExtra, match=r"umbel\[yaml\]"):
            use()


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_by_name", dict(registry._by_name))
    monkeypatch.setattr(registry, "_by_type", dict(registry._by_type))


@pytest.mark.usefixtures("own_registry")
def test_own_serializers() -> None:
    register_serializer("shout", str.upper, str.lower, "application/x-shout")
    encoded = dumps("é", "shout")
    assert encoded == Encoded("application/x-shout", "utf-8", "É".encode())
    assert loads(encoded.body, encoded.content_type, encoded.content_encoding, accept_set(["shout"])) == "é"
    register_serializer("flip", lambda v: v[::-1], lambda v: v[::-1], "application/x-flip", "binary")
    assert there_and_back(b"abc", "flip") == b"abc"
    register_serializer("wrong", lambda v: 1, lambda v: v, "application/x-wrong")  # pyright: ignore
    with pytest.raises(EncodeError, match="returned int"):
        dumps(1, "wrong")


@pytest.mark.usefixtures("own_registry")
def test_an_unsafe_serializer_of_raw_data_must_be_accepted() -> None:
    register_serializer("danger", lambda v: v, lambda v: v, "application/data", safe=False)
    with pytest.raises(ContentDisallowed):
        loads(b"1", "application/data", "binary", {"json"})
    assert loads(b"1", "application/data", "binary", {"danger"}) == b"1"


def test_heavy_modules_load_on_use() -> None:
    code = (
        "import sys, msgspec, typing, json, importlib.util\nbefore = set(sys.modules)\nimport umbel.codecs\n"
        "umbel.codecs.loads(umbel.codecs.dumps([1], 'json').body, 'application/json', 'utf-8', {'json'})\n"
        "print(*(set(sys.modules) - before))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"pickle", "yaml", "decimal", "bz2", "lzma", "uuid", "zlib", "zstandard", "brotli", "dataclasses"}
    assert "umbel.codecs.registry" in out.stdout.split()
    assert not heavy & set(out.stdout.split())
