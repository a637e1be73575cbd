"""FORMAT.md is the specification: its examples, kinds and tables agree with the code."""

import ast
import re
import zlib
from pathlib import Path

import pytest

import eventlog
from eventlog.cli import report
from eventlog.fold.document import KEYS
from eventlog.format import files
from eventlog.format.events import KINDS
from eventlog.format.files import parse_segment_name, segment_name
from eventlog.format.record import (
    MAX_LINE_BYTES,
    RESERVED,
    TRAILER_BYTES,
    decode,
    encode,
    encode_header,
    header_fields,
)
from eventlog.read.defects import DEFECTS
from eventlog.read.scanner import _MAX_STARTS
from tests.strategies import T

FORMAT = Path(eventlog.__file__).with_name("FORMAT.md").read_text()


def example():
    (line,) = re.findall(r"^```\n(\{.*\})\n```$", FORMAT, re.MULTILINE)
    return line.encode() + b"\n"


def test_the_worked_example_is_what_the_writer_writes():
    record = decode(example()[:-1])

    fields = {k: v for k, v in record.fields.items() if k != "nonfinite"}
    written = encode(record.n, record.s, record.t, record.event, fields | {"loss": float("nan")})
    assert written == example()


def test_the_worked_example_has_the_bytes_and_the_checksum_it_says():
    size, covered = map(int, re.search(r"has (\d+) bytes.*first (\d+)\.", FORMAT).groups())
    checksum = int(re.search(r"`zlib\.crc32\(line\[:-19\]\)` is `0x([0-9a-f]{8})`", FORMAT)[1], 16)

    assert len(example()) == size
    assert len(example()[: -1 - TRAILER_BYTES]) == covered
    assert zlib.crc32(example()[:-19]) == checksum


def test_the_limit_of_a_line_is_the_one_in_the_code():
    assert f"at most {MAX_LINE_BYTES:,} bytes" in FORMAT


def section(title):
    return FORMAT.split(f"# {title}\n")[1].split("\n## ")[0]


def code_names(text):
    return set(re.findall(r"`(\w+)`", text))


def test_the_reserved_names_are_those_of_the_code():
    sentence = re.search(r"The names (.*?)\s+are reserved", section("Values"), re.DOTALL)[1]

    assert code_names(sentence) == RESERVED


def test_the_names_of_segments_are_those_of_the_code():
    pattern = re.search(r"`<run>` is the first (\d+) characters", section("Segments"))
    new, old = re.search(r"(run_\S+\.segment)\n +(\S+)", section("Segments")).groups()
    stem, run, s, number, _ = new.split(".")

    assert segment_name(stem, run + "0" * 24, s, int(number)) == new
    assert parse_segment_name(new, stem) == (int(number), s, run)
    assert int(pattern[1]) == len(run)
    older = old.replace("<stem>", stem).replace("<s>", s).replace("<k>", number)
    assert parse_segment_name(older, stem) == (int(number), s, "")


def test_the_header_of_a_segment_has_the_fields_that_are_listed():
    line = encode_header(
        run_id="r", journal="j.jsonl", session="a1a1a1a1", number=0, first_n=7, s="b2b2b2b2", t=T
    )
    record = decode(line[:-1])
    listed = re.search(r"is its \*\*header\*\*.*?\. It tells", section("Segments"), re.DOTALL)[0]

    assert header_fields(record) == record.fields
    assert set(record.fields) == code_names(listed) - {"s", "event", "segment", "n"}


def test_the_limits_of_a_reader_are_those_of_the_code():
    assert f"the {_MAX_STARTS} nearest starts" in " ".join(FORMAT.split())


@pytest.mark.parametrize("kind", ["iter", "eval", "checkpoint"])
def test_the_rows_have_the_fields_that_are_listed_in_their_order(kind):
    rows = re.findall(
        rf"^\| `{kind}` i, .*\| (`.*) \|$|^\| `{kind}` i \| .*\| (`.*) \|$", FORMAT, re.M
    )
    (row,) = [first or second for first, second in rows]

    listed = dict.fromkeys(re.findall(r"`(\w+)`", row))
    assert [name for name in listed if name in KINDS[kind].row] == [*KINDS[kind].row]


TABLE_OF_KINDS = FORMAT.split("| kind | meaning and fields |")[1].split("\n\n")[0].splitlines()[2:]


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_the_row_of_a_kind_in_the_specification_is_what_the_code_has(kind):
    (row,) = [row for row in TABLE_OF_KINDS if row.startswith(f"| `{kind.name}` |")]

    assert row == kind.line_in_specification


def test_the_specification_lists_no_kind_that_the_code_does_not_have():
    assert len(TABLE_OF_KINDS) == len(KINDS)


def test_no_module_has_its_own_list_of_kinds():
    """Two kinds in one tuple, list or set: what they have in common belongs to `events`."""
    lists = {}
    for folder in ("eventlog", "tools", "trainer"):
        for path in (Path(eventlog.__file__).parents[1] / folder).rglob("*.py"):
            if path.name != "events.py":
                lists |= {f"{path.name}:{line}": kinds for line, kinds in lists_of_kinds(path)}

    assert lists == {}


def lists_of_kinds(path):
    for node in ast.walk(ast.parse(path.read_text())):
        items = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
        values = {item.value for item in items if isinstance(item, ast.Constant)}
        if isinstance(node, ast.Dict) and len(values) < len(items):
            continue  # a row
        if len(values) > 1 and values <= KINDS.keys() and values & {"iter", "eval", "open"}:
            yield node.lineno, values


SUFFIXES = {value for name, value in vars(files).items() if name.endswith("_SUFFIX")}


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_suffix_of_a_file_is_in_the_specification(suffix):
    assert re.search(rf"{re.escape(suffix)}\b", FORMAT)


FOREIGN = {"corpus.py", "guide.py", "config_file.py"}  # files of other programs


def test_no_other_module_spells_the_suffix_of_a_file():
    root = Path(eventlog.__file__).parents[1]
    spelled = {
        path.name
        for folder in ("eventlog", "tools", "trainer")
        for path in (root / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and str(node.value).removeprefix("*") in SUFFIXES
    }

    assert spelled - FOREIGN == {"files.py"}


def test_every_defect_the_scanner_can_name_is_in_the_table_and_no_other():
    table = FORMAT.split("| defect |")[1].split("\n\n")[0]
    named = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)

    assert {kind for row in named for kind in re.findall(r"`(\w+)`", row)} == set(DEFECTS)


def test_the_keys_of_the_run_json_are_in_their_order():
    section = FORMAT.split("## The run JSON")[1]
    ten = re.findall(r"`(\w+)`", section.split("order, one array element a line:")[1])[:10]

    assert tuple(ten) == KEYS


@pytest.mark.parametrize(
    ("code", "phrase"),
    [
        (report.COMPLETE, "0 complete"),
        (report.IO_ERROR, "1 a file could not be read"),
        (report.MISUSE, "2 misuse"),
        (report.LOSS, "3 events are lost"),
        (report.CONFLICT, "4 a person must look"),
        (report.EMPTY, "5 not one whole record"),
    ],
)
def test_the_exit_codes_are_those_of_the_code(code, phrase):
    codes = FORMAT.split("Exit codes of")[1].split("##")[0]

    assert phrase in " ".join(codes.split())
    assert phrase.startswith(str(code))


def test_an_open_event_has_the_fields_that_are_listed(tmp_path):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        pass
    with eventlog.open_run(journal=run.journal_path, from_iter=0, checkpoint="c", save_interval=0):
        pass
    opens = [r for r in eventlog.scan(run.journal_path) if r.event == "open"]

    row = re.search(r"^\| `open` \|(.*)\|$", FORMAT, re.MULTILINE)[1]
    assert set(opens[0].fields) | set(opens[1].fields) <= set(re.findall(r"`(\w+)`", row))
