"""Control characters in text from other sources are printed visibly and have no effect."""

import json
import subprocess
import sys

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog
from eventlog.cli.main import main
from eventlog.format.record import decode, encode, printable_line
from eventlog.format.text import print_lines, printable, printable_json

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp\u2028\r\x08\x7f"
OBEYED = ("\x1b", "\x07", "\x9b", "\u202e", "\u2028", "\r", "\x08", "\x7f")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("größer 数据 ● ▁▂█ 🚀 ñ", "größer 数据 ● ▁▂█ 🚀 ñ"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
        ("\udcff", r"\udcff"),
        ("back\\slash 'quote'", "back\\slash 'quote'"),
        (ValueError("\x1b"), r"\x1b"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_and_ordinary_text_stays(text, shown):
    assert printable(text) == shown


@given(st.text())
def test_any_text_becomes_one_printable_line_and_stays_so(text):
    shown = printable(text)

    assert shown.isprintable()
    assert printable(shown) == shown
    shown.encode()


def test_lines_of_a_message_stay_lines(capsys):
    print_lines("a\nb\x1b", "c\u2028", sep=" | ", end="!\n")

    assert capsys.readouterr().out == "a\nb\\x1b | c\\u2028!\n"


@given(st.dictionaries(st.text(), st.text() | st.lists(st.text())))
def test_printable_json_has_the_same_value_and_no_control_characters(value):
    text = json.dumps(value, ensure_ascii=False)

    shown = printable_json(text)

    assert json.loads(shown) == value
    assert shown.isprintable()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_line_of_a_journal_is_the_same_event_with_the_right_checksum(text):
    line = encode(3, "a1b2c3d4", "2026-11-29T00:00:00.000000+00:00", "note", {"text": text})[:-1]

    shown = printable_line(line)

    assert shown.decode().isprintable()
    assert decode(shown)[:5] == decode(line)[:5]


@pytest.fixture
def journal(tmp_path, monkeypatch):
    """A run with such characters wherever somebody may write, in a file so named."""
    folder = tmp_path / EVIL
    monkeypatch.setattr(sys, "orig_argv", ["train.py", EVIL])
    monkeypatch.setattr("socket.gethostname", lambda: EVIL)
    monkeypatch.setenv("USER", EVIL)
    run = eventlog.open_run(
        folder, run_name=f"m{EVIL}", config={EVIL: EVIL}, metadata={EVIL: [EVIL]}, save_interval=0
    )
    run.log_iter(0, 1.0, 1.0)
    run.log_eval(0, 1.0, 2.0)
    run.log_checkpoint(1, EVIL)
    run.log("metrics", step=0, **{EVIL: 1.0, "text": EVIL})
    run.log("note", text=EVIL, by=EVIL)
    run.log("tag", add=[EVIL])
    run.log(EVIL, **{EVIL: EVIL})
    run.log("error", error=EVIL)
    run.close(f"failed{EVIL}", EVIL)
    return run.journal_path


def refuse_terminals(captured, name):
    shown = captured.out + captured.err
    assert [c for c in OBEYED if c in shown] == [], f"{name}: {shown!r}"


COMMANDS = (
    ["verify"], ["verify", "--json"], ["status"], ["status", "--json"], ["cat"], ["compact"],
    ["recover"], ["compact", "--with-superseded"],
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("state", ["whole", "torn", "damaged", "live", "not there"])
def test_no_command_prints_control_characters_of_a_file(journal, capsys, command, state):
    data = journal.read_bytes()
    if state == "torn":
        journal.write_bytes(data[:-20])
    elif state == "damaged":
        journal.write_bytes(data[:200] + b"\x00" * 50 + data[250:])
        (journal.parent / f"other{EVIL}.jsonl").write_bytes(b"nothing")
    elif state == "not there":
        journal = journal.with_name(f"gone{EVIL}.jsonl")
    live = eventlog.open_run(journal=journal, save_interval=0) if state == "live" else None

    for target in (journal, journal.parent) if journal.exists() else (journal,):
        main([*command, str(target)])
        refuse_terminals(capsys.readouterr(), command)
    if live is not None:
        live.close()


@pytest.mark.parametrize("lines", ["1", "100"])
def test_tail_prints_nothing_that_a_terminal_obeys(journal, capsys, lines):
    main(["tail", "-n", lines, str(journal)])

    refuse_terminals(capsys.readouterr(), "tail")


def test_what_cat_prints_is_a_journal_with_the_same_events(journal, capfdbinary, tmp_path):
    main(["cat", str(journal)])

    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(capfdbinary.readouterr().out)
    assert [r[:5] for r in eventlog.scan(copy)] == [r[:5] for r in eventlog.scan(journal)]


def test_the_name_of_a_journals_writer_is_printed_without_control_characters(journal):
    with (
        eventlog.open_run(journal=journal, save_interval=0),
        pytest.raises(eventlog.JournalLocked) as refused,
    ):
        eventlog.open_run(journal=journal)

    assert str(refused.value).isprintable()
    assert "owned" in str(refused.value)


def test_what_the_writer_prints_on_stderr_is_shown(tmp_path):
    program = (
        "import eventlog, sys\n"
        f"run = eventlog.open_run({str(tmp_path / EVIL)!r}, save_interval=0)\n"
        f"run.close()\nrun.log({EVIL!r}, a=1)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert b"was not logged" in done.stderr
    assert [c for c in OBEYED if c.encode() in done.stderr] == []


def test_json_of_verify_and_status_has_the_names_as_they_are(journal, capsys):
    main(["status", "--json", str(journal)])

    status = orjson.loads(capsys.readouterr().out)
    assert status["journal"] == str(journal)
    assert status["host"] == EVIL
