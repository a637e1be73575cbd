"""FORMAT.md is the law: its example, its kinds and its tables are what the code does."""

import re
import zlib
from pathlib import Path

import pytest

import eventlog
from eventlog import report
from eventlog.ledger import DEFECTS
from eventlog.record import MAX_LINE_BYTES, TRAILER_BYTES, decode, encode
from eventlog.run import KEYS

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


def test_every_defect_the_scanner_can_name_is_in_the_table_and_no_other():
    table = FORMAT.split("| defect |")[1].split("\n\n")[0]
    named = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)

    assert {kind for row in named for kind in re.findall(r"`(\w+)`", row)} == set(DEFECTS)


def test_the_keys_of_the_run_json_stand_in_their_order():
    section = FORMAT.split("## The run JSON")[1]
    ten = re.findall(r"`(\w+)`", section.split("order, one array element a line:")[1])[:10]

    assert tuple(ten) == KEYS


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (report.COMPLETE, "0 complete"),
        (report.IO_ERROR, "1 a file could not be read"),
        (report.MISUSE, "2 misuse"),
        (report.LOSS, "3 events are lost"),
        (report.CONFLICT, "4 a person must look"),
        (report.EMPTY, "5 not one whole record"),
    ],
)
def test_the_exit_codes_are_those_of_the_code(code, words):
    codes = FORMAT.split("Exit codes of")[1].split("##")[0]

    assert words in " ".join(codes.split())
    assert words.startswith(str(code))


def test_an_open_event_has_the_fields_that_are_listed(tmp_path):
    with eventlog.open_run(tmp_path, save_interval=0) as run:
        pass
    with eventlog.open_run(journal=run.journal_path, from_iter=0, checkpoint="c", save_interval=0):
        pass
    opens = [r for r in eventlog.scan(run.journal_path) if r.event == "open"]

    row = re.search(r"^\| `open` \|(.*)\|$", FORMAT, re.MULTILINE)[1]
    assert set(opens[0].fields) | set(opens[1].fields) <= set(re.findall(r"`(\w+)`", row))
