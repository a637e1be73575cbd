"""One event, one line: events are read as they were written, and damaged lines are detected."""

import json
import math
import re
import zlib
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar
from unittest.mock import MagicMock
from uuid import UUID

import numpy as np
import orjson
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eventlog import RecordTooLarge
from eventlog.format import record as record_room
from eventlog.format.record import MAX_LINE_BYTES, RESERVED, Clock, Record, decode, encode
from tests import corrupt
from tests.strategies import SESSIONS, T, any_floats, any_text, json_fields, line, text

S = SESSIONS[0]


def strict_json(encoded):
    """The object of a line, read by two parsers that both refuse NaN."""

    def refuse(name):
        raise ValueError(f"{name} is not JSON")

    assert encoded.endswith(b"\n")
    assert encoded.count(b"\n") == 1
    value = json.loads(encoded, parse_constant=refuse)
    assert orjson.loads(encoded) == value
    return value


def stored(value):
    """What `value` is in the line of an event that has it, and in one that has a null beside it."""
    plain = strict_json(encode(0, S, T, "note", {"value": value}))
    beside_null = strict_json(encode(0, S, T, "note", {"value": value, "none": None}))
    assert plain["value"] == beside_null["value"]
    return plain["value"]


# ---- round trips


@given(st.integers(0, 2**63), text, json_fields)
def test_any_event_of_json_values_comes_back_as_it_was(n, event, fields):
    encoded = encode(n, S, T, event, fields)

    record = decode(encoded[:-1], offset=7)

    crc = int(encoded[-11:-3], 16)
    assert record == Record(n, S, T, event, fields, 7, encoded[:-1], crc)
    assert list(record.fields) == list(fields)
    assert strict_json(encoded)["event"] == event


@given(json_fields)
def test_encoding_leaves_the_fields_as_they_were(fields):
    before = json.dumps(fields)

    encode(0, S, T, "note", fields)

    assert json.dumps(fields) == before


def test_a_line_begins_with_its_identity_and_ends_with_its_checksum():
    encoded = encode(17, S, T, "iter", {"iter": 16, "loss": 2.5})

    covered = f'{{"n":17,"s":"{S}","t":"{T}","event":"iter","iter":16,"loss":2.5'.encode()
    assert encoded == covered + b',"crc":"%08x"}\n' % zlib.crc32(covered)


def test_how_much_is_durable_is_written_after_the_identity():
    record = decode(encode(3, S, T, "iter", {"iter": 1, "durable": "mine"}, durable=2)[:-1])

    assert record.fields == {"durable": 2, "iter": 1, "durable_": "mine"}


# ---- values that JSON has no word for


class Colour(Enum):
    RED = "red"
    NESTED = (1, Path("x"))


class Level(IntEnum):
    HIGH = 3


class Word(StrEnum):
    YES = "yes"


@dataclass
class Settings:
    lr: float
    _private: int = 2
    where: Path = Path("data")
    shared: ClassVar[int] = 5
    more: list[Any] = field(default_factory=lambda: [torch.tensor(1)])


class Refuses:
    def __repr__(self):
        raise RuntimeError("no")

    __str__ = __repr__


class RefusesToBeText(str):
    __slots__ = ()

    def __str__(self):
        raise RuntimeError("no")


class RefusesToBeRead:
    ndim = 0

    def item(self):
        raise KeyError("no")


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (torch.tensor(1.5), 1.5),
        (torch.tensor(1.5, requires_grad=True), 1.5),
        (torch.tensor(1.5, dtype=torch.bfloat16), 1.5),
        (torch.tensor(7), 7),
        (torch.tensor(True), True),
        (torch.tensor([1.0, 2.0]), [1.0, 2.0]),
        (torch.tensor([[1], [2]]), [[1], [2]]),
        (torch.zeros(2000), "<Tensor of shape (2000,)>"),
        (torch.empty((), device="meta"), "<Tensor: NotImplementedError>"),
        (torch.float32, "torch.float32"),
        (np.float64(1.5), 1.5),
        (np.float32(1.5), 1.5),
        (np.float16(1.5), 1.5),
        (np.int64(-3), -3),
        (np.uint8(3), 3),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.array(1.5), 1.5),
        (np.array([1, 2]), [1, 2]),
        (np.array([[1.5]]), 1.5),
        (np.array([[1.5, 2.5]]), [[1.5, 2.5]]),
        (np.zeros((100, 100)), "<ndarray of shape (100, 100)>"),
        (np.datetime64("2026-01-01T00:00:00"), "2026-01-01T00:00:00"),
        (pd.Timestamp("2026-01-01T00:00:00"), "2026-01-01T00:00:00"),
        (2**64 - 1, 2**64 - 1),
        (2**64, str(2**64)),
        (-(2**63) - 1, str(-(2**63) - 1)),
        (10**5000, hex(10**5000)),
        (Path("out") / "ckpt.pt", "out/ckpt.pt"),
        (PurePosixPath("/a"), "/a"),
        (datetime(2026, 1, 2, 3, 4, 5, 6, UTC), "2026-01-02T03:04:05.000006+00:00"),
        (datetime(2026, 1, 2), "2026-01-02T00:00:00"),
        (
            datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5, seconds=7))),
            "2026-01-01T00:00:00+05:00:07",
        ),
        (date(2026, 1, 2), "2026-01-02"),
        (time(1, 2, tzinfo=UTC), "01:02:00+00:00"),
        (timedelta(seconds=1), "datetime.timedelta(seconds=1)"),
        (b"\xff\x00", "b'\\xff\\x00'"),
        ("lone \udcff", "lone \\udcff"),
        ({1}, [1]),
        (frozenset(), []),
        (range(2), "range(0, 2)"),
        (Colour.RED, "red"),
        (Colour.NESTED, [1, "x"]),
        (Level.HIGH, 3),
        (Word.YES, "yes"),
        (Settings(0.5), {"lr": 0.5, "_private": 2, "where": "data", "more": [1]}),
        (Settings, f"<class '{Settings.__module__}.Settings'>"),
        (Point(1, torch.tensor(2)), {"x": 1, "y": 2}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.5"), 1.5),
        (Fraction(1, 2), 0.5),
        (1 + 2j, "(1+2j)"),
        (torch.tensor(1j), "1j"),
        (Refuses(), "<Refuses: RuntimeError>"),
        (RefusesToBeText("hi"), "hi"),
        (RefusesToBeRead(), None),
        ({1: "a", "1": "b", None: "c", 2.5: "d"}, {"1_": "a", "1": "b", "None": "c", "2.5": "d"}),
        ({Path("p"): 1, (1, 2): 2, Word.YES: 3}, {"p": 1, "(1, 2)": 2, "yes": 3}),
        ({Refuses(): 1, "kept": 2}, {"<Refuses: RuntimeError>": 1, "kept": 2}),
        ({"deep": [{"er": Path("x")}]}, {"deep": [{"er": "x"}]}),
        (print, "<built-in function print>"),
        ("line\nfeed \u2028 \x00 ünï 🙂", "line\nfeed \u2028 \x00 ünï 🙂"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_of_any_type_is_encoded(value, kept):
    if kept is None:
        assert stored(value).startswith("<")
    else:
        assert stored(value) == kept
        assert type(stored(value)) is type(kept)


def test_a_value_that_is_everything_at_once_is_encoded():
    assert isinstance(stored(MagicMock()), str)


def test_containers_inside_themselves_are_encoded_in_bounded_time():
    """Also where each lies in itself several times: the walk must not try all the ways."""
    listed = [1]
    listed += [listed, listed]
    keyed = {"a": {}, "b": {}, "c": {}}
    for inner in keyed.values():
        inner["up"] = keyed

    assert stored(listed) == [1, "<list inside itself>", "<list inside itself>"]
    assert stored(keyed) == {name: {"up": "<dict inside itself>"} for name in "abc"}


def test_a_container_that_is_met_twice_but_not_inside_itself_is_kept_twice():
    shared = [Path("x")]

    assert stored({"a": shared, "b": shared}) == {"a": ["x"], "b": ["x"]}


@pytest.mark.parametrize("depth", [50, 300, 100_000])
def test_a_value_nested_to_any_depth_is_encoded(depth):
    nested = [None]
    for _ in range(depth):
        nested = [nested]

    encoded = encode(0, S, T, "note", {"value": nested})
    assert decode(encoded[:-1]) is not None
    assert decode(encoded[:-1]) is not None


def awkward_values():
    leaves = (
        any_floats
        | any_text
        | st.binary(max_size=5)
        | st.integers()
        | st.datetimes()
        | st.dates()
        | st.timedeltas()
        | st.uuids()
        | st.complex_numbers()
        | st.sampled_from([Colour.RED, Settings(1.0), Path("p"), RefusesToBeRead()])
        | any_floats.map(np.float64)
        | any_floats.map(torch.tensor)
        | st.lists(any_floats, max_size=3).map(np.array)
    )
    keys = any_text | st.integers() | st.none() | st.tuples(st.integers()) | st.binary(max_size=3)
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(keys, inner, max_size=3)
            | st.tuples(inner, inner)
        ),
        max_leaves=8,
    )


@given(any_text, st.dictionaries(any_text, awkward_values(), max_size=4))
def test_no_event_of_any_values_raises_or_leaves_strict_json(event, fields):
    encoded = encode(5, S, T, event, fields)

    record = decode(encoded[:-1])
    strict_json(encoded)
    assert (record.n, record.s, record.t) == (5, S, T)
    assert len(record.fields.keys() - {"nonfinite"}) >= len(fields.keys() - {"nonfinite"})


# ---- what is not finite


@pytest.mark.parametrize(
    ("value", "name"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")]
)
@pytest.mark.parametrize("kind", [float, np.float64, np.float32, np.array, torch.tensor])
def test_a_number_that_is_not_finite_is_null_and_is_named_beside_it(value, name, kind):
    line = strict_json(encode(0, S, T, "iter", {"iter": 1, "loss": kind(value), "lr": 0.5}))

    del line["crc"]
    assert line == {
        "n": 0,
        "s": S,
        "t": T,
        "event": "iter",
        "iter": 1,
        "loss": None,
        "lr": 0.5,
        "nonfinite": {"loss": name},
    }


def test_a_nested_number_that_is_not_finite_is_named_by_its_path():
    value = {"lr": [0.1, math.nan], "deep": {"er": -math.inf}, "t": torch.tensor([1.0, math.inf])}

    fields = decode(encode(0, S, T, "open", {"config": value})[:-1]).fields

    assert fields == {
        "config": {"lr": [0.1, None], "deep": {"er": None}, "t": [1.0, None]},
        "nonfinite": {"config.lr.1": "nan", "config.deep.er": "-inf", "config.t.1": "inf"},
    }


def test_a_none_is_null_and_is_not_marked_as_not_finite():
    assert decode(encode(0, S, T, "iter", {"loss": None})[:-1]).fields == {"loss": None}


def test_a_callers_own_names_under_nonfinite_are_kept_with_ours():
    fields = {"nonfinite": {"grad": "inf"}, "loss": math.nan}

    kept = decode(encode(0, S, T, "iter", fields)[:-1]).fields

    assert kept == {"nonfinite": {"grad": "inf", "loss": "nan"}, "loss": None}


# ---- reserved and repeated names


@pytest.mark.parametrize("name", sorted(RESERVED))
@pytest.mark.parametrize("value", [1, None, math.nan, Path("x")])
def test_a_field_with_a_name_of_the_format_gets_an_underscore(name, value):
    record = decode(encode(4, S, T, "note", {name: value, "other": 2})[:-1])

    kept = {1: 1, None: None}.get(value, "x" if value == Path("x") else None)
    assert (record.n, record.s, record.t, record.event) == (4, S, T, "note")
    assert record.fields[f"{name}_"] == kept
    assert record.fields["other"] == 2


def test_a_renamed_field_does_not_push_out_another():
    kept = decode(encode(0, S, T, "note", {"n": 1, "n_": 2, "n__": 3})[:-1]).fields

    assert kept == {"n_2": 1, "n_": 2, "n__": 3}


def test_a_key_that_becomes_a_reserved_name_as_text_cannot_change_the_identity():
    record = decode(encode(4, S, T, "note", {Path("n"): 9, Path("crc"): 8})[:-1])

    assert (record.n, record.fields) == (4, {"n_": 9, "crc_": 8})


# ---- damage


def test_every_single_byte_of_a_line_changed_in_any_way_is_seen():
    whole = line(17, iter=16, loss=2.8317, note="ünï")[:-1]
    assert decode(whole) is not None

    for at in range(len(whole)):
        for value in set(range(256)) - {whole[at]}:
            damaged = corrupt.set_byte(whole, at, value)
            assert decode(damaged) is None, (at, value)


@given(st.binary(max_size=300))
def test_no_bytes_make_decode_raise(junk):
    assert decode(junk) is None


@given(st.binary(max_size=60))
def test_no_bytes_under_a_true_checksum_make_decode_raise(inside):
    body = b'{"n":' + inside
    sealed = body + b',"crc":"%08x"}' % zlib.crc32(body)

    assert decode(sealed) is None or isinstance(decode(sealed).n, int)


@pytest.mark.parametrize(
    "body",
    [
        b'{"n":-1,"s":"a","t":"t","event":"e"',
        b'{"s":"a","n":1,"t":"t","event":"e"',
        b'["n",1,"s","a"',
        b'{"n":true,"s":"a","t":"t","event":"e"',
        b'{"n":1.0,"s":"a","t":"t","event":"e"',
        b'{"n":1,"s":2,"t":"t","event":"e"',
        b'{"n":1,"s":"a","t":null,"event":"e"',
        b'{"n":1,"s":"a","t":"t"',
        b'{"n":1,"s":"a","t":"t","event":["e"]',
        b'{"n":1,"s":"a","t":"t","event":"\xff"',
        b'{"n":' + b"[" * 5000,
    ],
)
def test_a_line_with_a_valid_checksum_and_an_invalid_identity_is_not_a_record(body):
    assert decode(body + b',"crc":"%08x"}' % zlib.crc32(body)) is None


def test_a_checksum_in_capitals_is_not_the_one_that_was_written():
    whole = next(e for e in (line(n)[:-1] for n in range(99)) if re.search(rb"[a-f]..?\"\}$", e))

    assert decode(whole[:-10] + whole[-10:].upper()) is None


# ---- size


@pytest.mark.parametrize("over", [0, 1])
def test_a_line_of_the_greatest_size_is_encoded_and_one_byte_more_is_refused(over):
    n_free = MAX_LINE_BYTES - len(encode(0, S, T, "note", {"text": ""}))

    if over:
        with pytest.raises(RecordTooLarge, match=r"a 'note' event of 1,048,577 bytes .* 1,048,576"):
            encode(0, S, T, "note", {"text": "x" * (n_free + over)})
    else:
        assert len(encode(0, S, T, "note", {"text": "x" * n_free})) == MAX_LINE_BYTES


# ---- time


def test_the_time_is_text_of_fixed_width_in_utc(monkeypatch):
    clock = Clock()
    moments = [0, 1, 999_999, 10**9 - 1, 1_795_404_301_123_456_789, 1_795_404_301_000_000_000]

    clock_times = []
    for ns in moments:
        monkeypatch.setattr(record_room.time, "time_ns", lambda ns=ns: ns)
        clock_times.append(clock.now())

    assert {len(t) for t in clock_times} == {32}
    assert [datetime.fromisoformat(t) for t in clock_times] == [
        datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ns // 1000) for ns in moments
    ]
    assert clock_times[4] == "2026-11-23T03:25:01.123456+00:00"


def test_a_clock_before_1970_or_after_the_year_9999_is_limited_to_that(monkeypatch):
    clock = Clock()
    end_ns = 253_402_300_800 * 10**9
    moments = [-7 * 10**19, -1, 0, 5000, end_ns - 1, end_ns, 3 * 10**20, 3 * 10**23]

    clock_times = []
    for ns in moments + moments[::-1]:
        monkeypatch.setattr(record_room.time, "time_ns", lambda ns=ns: ns)
        clock_times.append(clock.now())

    first, last = "1970-01-01T00:00:00.00000", "9999-12-31T23:59:59.999999+00:00"
    ends = [*[f"{first}0+00:00"] * 3, f"{first}5+00:00", *[last] * 4]
    assert clock_times == ends + ends[::-1]
    assert clock.us == 0
