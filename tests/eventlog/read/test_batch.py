"""Iterations that are read in batches equal those that are read one by one."""

import zlib

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventlog.fold.fold import Fold
from eventlog.format.json_rows import encode_row
from eventlog.format.record import Record, decode, encode
from eventlog.read import batch as batch_module
from eventlog.read import scanner as scanner_module
from eventlog.read.batch import LEADS, Batch, batch_after
from eventlog.read.scanner import Scanner
from tests.kept_rows import KeptRows
from tests.strategies import SESSIONS, T, damages, journals, line


def read(data, cuts=(), **how):
    scanner, items = Scanner(**how), []
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        items += scanner.feed_on(data[begin:end])
    return items + scanner.finish(), scanner


def folded(items, **how):
    fold = Fold(**how)
    for item in items:
        if isinstance(item, Batch):
            fold.add_batch(item)
        else:
            fold.add(item)
    return fold


def assert_the_same(data, cuts=()):
    """That reading in batches tells of `data` what reading line by line does."""
    items, scanner = read(data, cuts, in_batches=True)
    records, one_by_one = read(data)

    singly = [r for i in items for r in (i if isinstance(i, Batch) else [i])]
    for batch in items:
        if isinstance(batch, Batch):
            assert [batch[at] for at in range(len(batch))] == batch[:] == [*batch]
    assert singly == records
    assert scanner.defects == one_by_one.defects
    assert (scanner.n_records, scanner.crc) == (one_by_one.n_records, one_by_one.crc)
    folds = [folded(some) for some in (items, records)]
    document = [b"".join(fold.run().to_json()) for fold in folds]
    assert document[0] == document[1]
    counting = folded(items, with_rows=False)
    assert counting.superseded == folds[1].superseded
    assert counting.missing_iterations() == folds[1].missing_iterations()
    sinks = [KeptRows(), KeptRows()]
    for some, sink in zip((items, records), sinks, strict=True):
        folded(some, sink=sink)
    assert sinks[0].rows == sinks[1].rows
    durable = [{s: session.durable_n for s, session in fold.sessions.items()} for fold in folds]
    assert durable[0] == durable[1]
    return items


def iterations(n_first, iters, s=SESSIONS[0], **more):
    return [line(n_first + k, s, iter=i, loss=3.5 - i / 1e3, time_ms=50.0, mfu=31.5, **more)
            for k, i in enumerate(iters)]  # fmt: skip


def a_journal(n=60):
    return [line(0, event="open", run_id="r", run_name="run"), *iterations(1, range(n))]


def test_the_usual_lines_are_read_at_once():
    items = assert_the_same(b"".join(a_journal()))

    assert [type(item) for item in items] == [Record, Record, Batch, Record, Batch]
    assert [len(items[2]), len(items[4])] == [8, 50]  # n has one digit, n has two


@given(st.data())
def test_whatever_was_written_and_happened_to_it_it_reads_the_same(data):
    whole = data.draw(journals).data
    whole = data.draw(damages(whole, in_place=False))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanner_module, "_LEAST_LINES", 1)
        assert_the_same(whole, cuts)


UNUSUAL = {
    "a NaN": encode(31, SESSIONS[0], T, "iter", {"iter": 30, "loss": float("nan"), "time_ms": 1.0,
                                                 "mfu": 1.0}),
    "an integer for a loss": line(31, iter=30, loss=3, time_ms=50.0, mfu=31.5),
    "true for an iteration": line(31, iter=True, loss=3.5, time_ms=50.0, mfu=31.5),
    "no mfu": line(31, iter=30, loss=3.5, time_ms=50.0),
    "other fields": line(31, iter=30, loss=3.5, time_ms=50.0, mfu=31.5, lr=0.1),
    "another order": line(31, iter=30, time_ms=50.0, loss=3.5, mfu=31.5),
    "what is durable": encode(31, SESSIONS[0], T, "iter", {"iter": 30, "loss": 3.5, "time_ms": 1.0,
                                                           "mfu": 1.0}, 20),
    "an annotation": line(31, iter=30, loss=3.5, time_ms=50.0, mfu=31.5, annotates="other"),
    "an iteration again": line(31, iter=12, loss=3.5, time_ms=50.0, mfu=31.5),
    "an iteration too large": line(31, iter=1 << 63, loss=3.5, time_ms=50.0, mfu=31.5),
    "a record again": line(30, iter=29, loss=3.5 - 29 / 1e3, time_ms=50.0, mfu=31.5),
    "another record of the same name": line(30, iter=29, loss=9.0, time_ms=50.0, mfu=31.5),
    "a gap": line(33, iter=32, loss=3.5, time_ms=50.0, mfu=31.5),
    "another session": line(31, SESSIONS[1], iter=30, loss=3.5, time_ms=50.0, mfu=31.5),
    "another event": line(31, event="note", text='"event":"iter","iter":30'),
    "a space": b" " + line(31, iter=30, loss=3.5, time_ms=50.0, mfu=31.5),
    "a carriage return": line(31, iter=30, loss=3.5, time_ms=50.0, mfu=31.5)[:-1] + b"\r\n",
    "another letter": line(31, iter=30, loss=3.5, time_ms=50.0, mfu=31.5).replace(b"50.0", b"51.0"),
    "half a line": line(31, iter=30, loss=3.5, time_ms=50.0, mfu=31.5)[:70],
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("unusual", UNUSUAL)
@pytest.mark.parametrize("instead", [True, False], ids=["instead", "between"])
def test_one_unusual_line_is_read_as_itself(unusual, instead):
    lines = a_journal()
    lines[31 : 31 + instead] = [UNUSUAL[unusual]]

    assert_the_same(b"".join(lines))


def checksummed(body):
    return b'%b,"crc":"%08x"}\n' % (body, zlib.crc32(body))


@pytest.mark.parametrize("value", [3, True, None, 10**400, "x", [1], {"a": 1}], ids=repr)
@pytest.mark.parametrize("name", ["loss", "time_ms", "mfu"])
def test_a_value_that_is_not_a_number_in_all_lines_is_read_unchanged(name, value):
    values = {"loss": 3.5, "time_ms": 50.0, "mfu": 31.5} | {name: value}
    lines = [line(k + 1, iter=k, **values) for k in range(30)]

    assert_the_same(b"".join([*a_journal(0), *lines]))


AWKWARD = st.sampled_from(['a,"b', '":', ',"', ":", "a", "", "[", "\\", '{"x":1}', "a,b", "ü"])
VALUES = st.integers(-9, 9) | st.floats() | st.none() | st.booleans() | AWKWARD
MORE = st.dictionaries(AWKWARD, VALUES | st.lists(VALUES, max_size=3), max_size=3)


@given(MORE)
@example({"said": ',"a":1'})
@example({"betas": [1, 2]})
@example({'"x': 1.5})
@example({"flops": 3.2e18})
@example({"flops": -3.2e18, "lr": 1e-9, "top5": 1, "e-3": 2.0, "3e4": 5.0})
def test_other_fields_that_all_lines_have_are_in_the_run(more):
    values = {"loss": 3.5, "time_ms": 50.0, "mfu": 31.5}
    lines = [encode(k + 1, SESSIONS[0], T, "iter", {"iter": k} | values | more) for k in range(30)]

    items = assert_the_same(b"".join([*a_journal(0), *lines]))

    assert any(isinstance(item, Batch) for item in items)
    rows = folded(items).run().training_iterations
    assert rows.encoded == [encode_row(row) for row in rows]


def test_iterations_that_all_annotate_another_run_are_not_this_ones():
    lines = [*a_journal(0), *iterations(0, range(30), SESSIONS[1], annotates="other")]

    items = assert_the_same(b"".join(lines))

    assert len(folded(items).run().training_iterations) == 0


def test_an_iteration_beyond_64_bits_at_the_end_is_read_as_itself():
    lines = [*a_journal(), *iterations(61, [1 << 62, (1 << 63) - 1, 1 << 63])]

    assert_the_same(b"".join(lines))


def test_a_line_with_a_checksum_but_not_as_we_write_it_is_damage():
    lines = a_journal()
    lines[31] = checksummed(b"{ " + lines[31].rpartition(b',"crc"')[0][1:])

    items = assert_the_same(b"".join(lines))

    assert len(folded(items).run().training_iterations) == 59


ELSEWHERE = {
    "in the last name": (b'"mfu":31.5', b'"mf31.5u":'),
    "in a name": (b'"loss":3.25', b'"lo3.25ss":'),
    "behind text": (b'"ph":"w"', b'"ph":"w".5'),
    "behind null": (b'"k":null', b'"k":null.5'),
    "behind what stands for a name": (b'"top5":', b'"\xfdg":'),
    "apart": (b'"time_ms":50.0', b'"time_ms":5\xfe3'),
    "apart, large": (b'"time_ms":50.0', b'"time_ms":5\xff3'),
}


@pytest.fixture(params=[False, True], ids=["few names", "many names"])
def has_many_names(request, monkeypatch):
    """Whether a row counts as one of many names, which are removed at once."""
    if request.param:
        monkeypatch.setattr(batch_module, "_REPLACED_MAX", -1)
    return request.param


@pytest.mark.usefixtures("has_many_names")
@pytest.mark.parametrize("elsewhere", ELSEWHERE)
@pytest.mark.parametrize("k", [40, 60], ids=["between", "last"])
def test_a_number_in_the_wrong_place_is_damage(elsewhere, k):
    values = {"loss": 3.25, "time_ms": 50.0, "ph": "w", "k": None, "mfu": 31.5, "top5": 0.5}
    for order in (["loss", "time_ms", "mfu", "ph", "k", "top5"], ["loss", "time_ms", "mfu"]):
        lines = [line(n, iter=n, **{name: values[name] for name in order}) for n in range(1, 61)]
        body = lines[k - 1].rpartition(b',"crc"')[0]
        lines[k - 1] = checksummed(body.replace(*ELSEWHERE[elsewhere]))
        assert_the_same(b"".join([*a_journal(0), *lines]))


@pytest.mark.parametrize("session", ["%d", "%s%%", "a b", 'a"b', "ü"])
def test_a_session_of_another_name_than_we_give_is_read(session):
    lines = [line(n, session, iter=n, loss=3.5, time_ms=50.0, mfu=31.5) for n in range(1, 60)]

    assert_the_same(b"".join([line(0, session, event="open"), *lines]))


def test_an_unescaped_quote_in_all_times_but_the_first_is_damage():
    text = [line(n, iter=n, loss=3.5, time_ms=50.0, mfu=31.5) for n in range(1, 40)]
    first, *others = (row.rpartition(b',"crc"')[0] for row in text)
    lines = [checksummed(first.replace(b"T03", b'\\"03'))]
    lines += [checksummed(body.replace(b"T03", b'"03')) for body in others]

    items = assert_the_same(b"".join([*a_journal(0), *lines]))

    assert [item.n for item in items] == [0, 1]


ROWS = {
    "a name said twice": '"iter":{n},"loss":3.5,"time_ms":50.0,"mfu":31.5,"lr":0.5,"lr":0.25',
    "a figure said twice": '"iter":{n}0,"loss":{n}2,"time_ms":{n}4,"mfu":{n}6,"loss":{n}8',
    "another order": '"iter":{n},"loss":3.5,"mfu":31.5,"time_ms":50.0',
    "what is durable said late": '"iter":{n},"loss":3.5,"time_ms":50.0,"mfu":31.5,"durable":{n}.5',
    "objects": '"iter":{n},"loss":3.5,"time_ms":50.0,"mfu":31.5,"by":{{"a":1,"b":[2,3.5]}}',
}


@pytest.mark.parametrize("row", ROWS)
def test_lines_that_our_writer_would_write_otherwise_are_read_as_one_by_one(row):
    head = '{{"n":{n},"s":"{s}","t":"{t}","event":"iter",'
    lines = [
        checksummed((head + ROWS[row]).format(n=n, s=SESSIONS[0], t=T).encode())
        for n in range(1, 60)
    ]

    assert_the_same(b"".join([*a_journal(0), *lines]))


NUMBERS = st.sampled_from([0, 1, 1.0, -0.0, 0.0, 2.5, 1e-9, 3e18, -7, 10**19])
NAN = {"text": None, "nonfinite": {"text": "nan"}}
NESTED = {"text": {"a": 1.5, "b": "x", "c": None}, "nonfinite": {"text.c": "-inf"}}
OTHERS = st.sampled_from(
    [*({"text": text} for text in ("a", ',"b":', None, True)), NAN, NESTED, {"nonfinite": 5}]
)
MOST = st.sampled_from([1, 1, 1, 1, 1, 0, 3, -4])
LOGGED = st.lists(
    st.tuples(
        st.sampled_from(["metrics"] * 7 + ["iter", "eval", "rewind"]), MOST, NUMBERS, NUMBERS
    ),
    max_size=25,
)
PHASES = st.lists(
    st.tuples(
        LOGGED, st.lists(st.sampled_from(["top1", "top5", "loss", "text.a"]), unique=True), OTHERS
    ),
    max_size=3,
)


@given(st.lists(PHASES, min_size=1, max_size=3))
@example(  # a least figure that is written in two ways
    [[([("metrics", 1, k, k) for k in (1, 1.0, 1.0, 1)], ["loss", "top1"], {})]]
)
@example([[([("metrics", 1, 1, 1)] * 9, ["loss"], NAN)]])
@example([[([("metrics", 1, 1, 1)] * 9, ["text.a"], NESTED)]])
def test_metrics_are_read_the_same_in_batches_and_one_by_one(sessions):
    lines = []
    for s, phases in zip(SESSIONS, sessions, strict=False):
        lines.append(line(0, s, event="open", run_id="r"))
        n = step = 0
        for logged, names, others in phases:
            for event, further, one, other in logged:
                n, step = n + 1, step + further
                values = {"top1": one, "top5": other, "loss": one, "text.a": other}
                fields = {"step" if event == "metrics" else "iter": step, "to_iter": step}
                fields |= {name: values[name] for name in names} | others
                lines.append(encode(n, s, T, event, fields, n - 1 if n % 7 == 0 else None))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanner_module, "_LEAST_LINES", 1)
        assert_the_same(b"".join(lines))


def test_fields_whose_order_changes_are_read_by_their_names():
    lines = [
        line(n, event="metrics", step=n, **dict([("top1", n), ("top5", -n)][:: (-1) ** n]))
        for n in range(1, 60)
    ]

    items = assert_the_same(b"".join([*a_journal(0), *lines]))

    assert folded(items).run().journal["metrics"]["names"]["top1"]["max"] == 59


def test_metrics_are_read_at_once():
    fields = {"loss": 3.5, "acc/top1": 1, "phase": "warm"}
    lines = [line(n, event="metrics", step=n, **fields) for n in range(1, 60)]

    items = assert_the_same(b"".join([*a_journal(0), *lines]))

    assert [item.n for item in items if isinstance(item, Record)] == [0, 1, 10]
    assert folded(items).run().metrics.encoded == [
        encode_row({"step": n} | fields) for n in range(1, 60)
    ]


def test_metrics_of_many_names_are_read_at_once():
    names = [*(f"group{k}/top-{k}" for k in range(100)), 'quo"te', "back\\slash"]
    for some in (names[:-2], names):
        rows = [{name: n / (k + 1) for k, name in enumerate(some)} for n in range(60)]
        lines = [line(n + 1, event="metrics", step=n, **row) for n, row in enumerate(rows)]

        items = assert_the_same(b"".join([*a_journal(0), *lines]))

        assert [*folded(items).run().metrics] == [{"step": n} | r for n, r in enumerate(rows)]
        if some is not names:
            assert any(isinstance(item, Batch) for item in items)


@pytest.mark.parametrize("is_known", [False, True])
def test_metrics_after_some_without_a_number_are_counted_completely(is_known):
    name = "loss" if is_known else "acc"  # a shape that was met before, and one that was not
    lines = [line(n, event="metrics", step=n, loss=1.0) for n in range(1, 31)]
    lines += [line(0, SESSIONS[1], event="open", run_id="r")]
    steps = [99.5, *range(100, 108), 101, *range(108, 150)]
    lines += [
        line(n, SESSIONS[1], "metrics", step=step, **{name: 1 / n})
        for n, step in enumerate(steps, 1)
    ]

    items = assert_the_same(b"".join([*a_journal(0), *lines]))

    assert len(folded(items).run().metrics) == 30 + 8 + 42


def test_iterations_without_a_duration_are_read_at_once():
    lines = [line(n, iter=n, loss=3.5, time_ms=None, mfu=-100.0) for n in range(10, 60)]

    items = assert_the_same(b"".join([*a_journal(9), *lines]))

    assert any(isinstance(item, Batch) and item.n > 10 for item in items)
    assert folded(items).summary()["avg_time_ms"] == 50.0


def test_iterations_with_a_field_more_are_read_at_once_from_the_second_on():
    lines = [*a_journal(98), line(99, event="note", text="now with lr")]
    lines += iterations(100, range(98, 198), lr=0.5)

    items = assert_the_same(b"".join(lines))

    assert [item.n for item in items if isinstance(item, Record)] == [0, 1, 10, 99, 100]


def test_between_two_lines_with_durable_all_are_read_at_once():
    lines = a_journal(200)
    for n in range(110, 200, 20):
        fields = {"iter": n - 1, "loss": 3.5, "time_ms": 50.0, "mfu": 31.5}
        lines[n] = encode(n, SESSIONS[0], T, "iter", fields, n - 5)

    items = assert_the_same(b"".join(lines))

    alone = [item.n for item in items if isinstance(item, Record) and item.n > 100]
    assert alone == [110, 130, 150, 170, 190]


EDITS = st.lists(
    st.tuples(
        st.integers(12, 59),
        st.integers(0, 200),
        st.integers(0, 3),
        st.lists(st.sampled_from([*b'0159.-+,:"eE{}[ \\nulso\0\1_']), max_size=3).map(bytes),
    ),
    min_size=1,
    max_size=3,
)


@given(EDITS, st.booleans(), st.booleans())
@example([(30, 92, 0, b""), (30, 99, 0, b"1")], False, False)  # a digit within a name
@example([(30, 92, 0, b""), (30, 99, 0, b"1")], True, True)
def test_lines_with_an_unusual_checksum_are_read_one_by_one(edits, is_rich, has_many):
    more = {"lr": 1e-9, "top5": 0.5, "flops": 3e18, "phase": "warm"} if is_rich else {}
    lines = [*a_journal(0), *iterations(1, range(60), **more)]
    for k, at, n_gone, instead in edits:
        body = lines[k].rpartition(b',"crc"')[0]
        at = at % len(body)
        lines[k] = checksummed(body[:at] + instead + body[at + n_gone :])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_module, "_REPLACED_MAX", -1 if has_many else 8)
        assert_the_same(b"".join(lines))


@pytest.mark.usefixtures("has_many_names")
@pytest.mark.parametrize("more", [{}, {"top5": 0.5, "fl": 3e18, "ph": "w", "k": None}], ids=len)
def test_a_byte_moved_to_any_other_place_in_a_line_is_not_read_as_something_else(more):
    first, second, third = (line[:-1] for line in iterations(11, range(10, 13), **more))
    body = second.rpartition(b',"crc"')[0]

    moved = {
        (body[:i] + body[i + 1 :])[:j] + body[i : i + 1] + (body[:i] + body[i + 1 :])[j:]
        for i in range(len(body))
        for j in range(len(body))
    }

    for other in moved:
        lines = [checksummed(other)[:-1], third]
        batch = batch_after(decode(first), lines, None)
        assert batch is None or stretch_of(map(decode, lines)) == columns(batch)


def stretch_of(records):
    """What a batch of these records has to hold; None: they are none."""
    records = [*records]
    fields = [record.fields for record in records if record and record.event == "iter"]
    if len(fields) < len(records):
        return None
    values = tuple([row.get(name) for row in fields] for name in LEADS["iter"])
    return {(record.s, tuple(record.fields)) for record in records}, [r.n for r in records], values


def columns(batch):
    values = [*batch.steps], *map(batch.column, LEADS["iter"][1:])
    numbers = [*range(batch.n, batch.n + len(batch))]
    return {(batch.s, tuple(batch.last.fields))}, numbers, values


def test_what_a_scrap_between_a_stretch_and_another_session_cost_is_known():
    lines = [*a_journal(), b"xx\n", line(0, SESSIONS[1], event="open", run_id="r")]

    assert_the_same(b"".join(lines))


def test_what_a_scrap_before_lines_read_again_cost_is_known():
    scrap = b"x" * 200 + b"\n"
    again = [line(41, event="eval", iter=40, val_loss=3.0), *iterations(42, [40])]
    lines = [*a_journal(40), *again, scrap, *again, *iterations(43, range(41, 60)), scrap]

    assert_the_same(b"".join(lines))


def test_lines_that_come_late_fill_their_gap():
    first, last = a_journal(10), iterations(40, range(39, 60))
    lines = [*first, *last, *iterations(11, range(10, 39))]

    assert_the_same(b"".join(lines))


def test_lines_behind_an_unusual_one_are_read_at_once_again():
    lines = [*a_journal(30), line(31, event="eval", iter=30, val_loss=3.0)]
    lines += iterations(32, range(30, 60))

    items = assert_the_same(b"".join(lines))

    begins = [item.n for item in items if isinstance(item, Batch)]
    assert min(begins) < 31 < max(begins)


def test_repeated_iterations_supersede_within_a_session():
    lines = [*a_journal(30), line(31, event="rewind", to_iter=10)]
    lines += iterations(32, range(10, 40))

    items = assert_the_same(b"".join(lines))

    fold = folded(items)
    assert fold.superseded["iterations"] == 20
    assert len(fold.run().training_iterations) == 40


def test_a_fold_without_rows_counts_the_iterations_and_keeps_none():
    items, _ = read(b"".join(a_journal()), in_batches=True)

    fold = folded(items, with_rows=False)

    run = fold.run()
    assert len(run.training_iterations) == 0
    assert (run.summary["total_iterations"], run.summary["final_iter"]) == (60, 59)


def test_another_runs_iterations_are_left_out():
    lines = a_journal(30)
    lines += [line(0, SESSIONS[1], "open", run_id="q"), *iterations(1, range(30, 60), SESSIONS[1])]

    items = assert_the_same(b"".join(lines))

    assert len(folded(items).run().training_iterations) == 30


def test_rows_are_the_lines_own_bytes():
    (*_, batch) = assert_the_same(b"".join(a_journal()))

    rows = [orjson.loads(row) for row in batch.rows().splitlines()]

    assert [row["iter"] for row in rows] == list(range(10, 60))
    assert all(list(row) == ["iter", "loss", "time_ms", "mfu"] for row in rows)
