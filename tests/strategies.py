"""All Hypothesis strategies: values, events, runs of sessions, journals and their damage."""

from typing import Any, NamedTuple

from hypothesis import strategies as st

from eventlog.format.files import segment_name
from eventlog.format.record import RESERVED, Record, decode, encode, encode_header
from tests import corrupt

T = "2026-11-23T03:25:01.123456+00:00"
SESSIONS = ("a1a1a1a1", "b2b2b2b2", "c3c3c3c3", "d4d4d4d4")


# ---- values

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
json_fields = st.dictionaries(text.filter(lambda key: key not in RESERVED), json_values, max_size=6)
lone_surrogates = st.characters(categories=["Cs"])
any_text = st.text(st.characters() | lone_surrogates, max_size=20)
any_floats = st.floats(allow_nan=True, allow_infinity=True)


# ---- journals


def line(n: int, s: str = SESSIONS[0], event: str = "iter", t: str = T, **fields: Any) -> bytes:
    """A true line, LF included."""
    return encode(n, s, t, event, fields)


def record(n: int, s: str = SESSIONS[0], event: str = "iter", t: str = T, **fields: Any) -> Record:
    """The record of `line`, as a reader finds it at the beginning of a file."""
    found = decode(line(n, s, event, t, **fields)[:-1])
    assert found is not None
    return found


class Written(NamedTuple):
    """A journal and the events that are in it: (s, n, event, fields), in order."""

    data: bytes
    events: list[tuple[str, int, str, dict[str, Any]]]


def journal(*sessions: list[tuple[str, dict[str, Any]]]) -> Written:
    """A journal of whole sessions; each begins with an `open` event, followed by its events."""
    data, events = b"", []
    for s, events_of_session in zip(SESSIONS, sessions, strict=False):
        opening = ("open", {"format": 1, "run_id": "r", "run_name": "run"})
        for n, (event, fields) in enumerate([opening, *events_of_session]):
            data += line(n, s, event, **fields)
            events.append((s, n, event, fields))
    return Written(data, events)


iters = st.builds(
    lambda i, loss: ("iter", {"iter": i, "loss": loss, "time_ms": 52.1, "mfu": 31.2}),
    st.integers(0, 999),
    st.floats(0, 20),
)
others = st.tuples(st.sampled_from(["eval", "note", "close", "ünknown"]), json_fields)
journals = st.lists(st.lists(iters | others, max_size=6), min_size=1, max_size=3).map(
    lambda sessions: journal(*sessions)
)


# ---- damage


@st.composite
def damages(draw: st.DrawFn, data: bytes, *, in_place: bool) -> bytes:
    """`data` after one to three accidents; `in_place`: its length and its last byte stay."""
    for _ in range(draw(st.integers(1, 3))):
        if not data:
            return data
        at, to = draw(st.integers(0, len(data) - 1)), draw(st.integers(0, len(data)))
        size = draw(st.integers(1, 64) | st.integers(64, 1024))
        junk = draw(st.binary(min_size=1, max_size=64))
        accidents = [
            lambda d, at=at, size=size: corrupt.flip_bit(d, at, size % 8),
            lambda d, at=at, size=size: corrupt.zero_block(d, at, size),
            lambda d, at=at, junk=junk: corrupt.overwrite(d, at, junk),
        ]
        if not in_place:
            accidents += [
                lambda d, size=size: corrupt.cut_tail(d, size),
                lambda d, at=at, junk=junk: corrupt.insert(d, at, junk),
                lambda d, junk=junk: corrupt.append_junk(d, junk),
                lambda d, at=at, size=size: corrupt.delete(d, at, size),
                lambda d, at=at, size=size, to=to: corrupt.repeat_block(d, at, size, to),
            ]
        damaged = draw(st.sampled_from(accidents))(data)
        data = damaged[:-1] + data[-1:] if in_place else damaged
    return data


# ---- runs of sessions, for the fold


class Step(NamedTuple):
    """One event of a run's history: `number` is its iteration, or where a rewind goes to."""

    event: str
    number: int


def _session(first: bool) -> st.SearchStrategy[list[Step]]:
    """The steps of one session: open, log iterations, perhaps rewind and log them again."""
    opens = st.none() if first else st.none() | st.integers(0, 12)
    steps = st.lists(
        st.builds(
            Step,
            st.sampled_from(["iter", "iter", "iter", "eval", "checkpoint", "rewind"]),
            st.integers(0, 12),
        ),
        max_size=12,
    )
    return st.tuples(opens, steps).map(
        lambda pair: [Step("open", -1 if pair[0] is None else pair[0]), *pair[1]]
    )


histories = st.tuples(_session(True), st.lists(_session(False), max_size=4)).map(
    lambda pair: [pair[0], *pair[1]]
)
"""Sessions of steps; an `open` of number -1 says nothing about where it begins."""


def begin_run(path):
    """A journal of two iterations, whose session goes on."""
    iters = [line(n, SESSIONS[0], iter=n - 1, loss=1.0) for n in (1, 2)]
    path.write_bytes(b"".join([line(0, SESSIONS[0], "open", run_id="r"), *iters]))


def resume_run_that_went_on(path, fallback):
    """The session goes on in a segment, which the journal names when the run was resumed."""
    a, b = SESSIONS[:2]
    fallback.mkdir()
    segment = fallback / segment_name(path.stem, "r", a, 0)
    header = {"run_id": "r", "journal": path.name, "session": a, "number": 0, "first_n": 3}
    went_on = encode_header(**header, s="f0f0f0f0", t=T) + line(3, a, iter=2, loss=1.0)
    segment.write_bytes(went_on)
    moved = {"file": segment.name, "folder": str(fallback), "number": 0, "first_n": 3}
    resumed = line(0, b, "open", run_id="r", from_iter=1), line(1, b, iter=1, loss=2.0)
    with path.open("ab") as file:
        file.writelines([*resumed, line(4, a, "segment", **moved)])
