"""A new kind of event is one entry of `eventlog.format.events.KINDS`: every tool handles it."""

import json
import subprocess
import sys
from textwrap import dedent

import pytest

ADD_KIND = dedent("""
    import json, sys
    from pathlib import Path
    from eventlog.format.events import KINDS, Kind
    KINDS["sample"] = Kind(
        "sample", "a text that the model wrote: `iter`, `score`, `text`",
        rule="samples", axis="iter", key="samples", row={"iter": None, "score": None, "text": None},
        is_mark=True,
    )
    import eventlog
    from eventlog.fold.document import Run
    ROW = {"iter": 3, "score": 0.5, "text": "ein Satz"}
    run = Run(run_name="a", start_time="2026-11-23T03:25:01.000000+00:00")
    run.samples = [ROW]
    folder = Path(sys.argv[1])

    def journal():
        with eventlog.open_run(folder, save_interval=0) as session:
            session.log("sample", **ROW)
        return session.journal_path
""")


def with_new_kind(folder, program):
    """What a program prints as JSON, in a process in which there is a kind `sample`."""
    command = [sys.executable, "-c", ADD_KIND + dedent(program), str(folder)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def test_a_fork_copies_its_rows(tmp_path):
    copied = with_new_kind(
        tmp_path,
        """
        from eventlog.tracker.resume import copy_rows
        with eventlog.open_run(folder, save_interval=0) as session:
            copy_rows(run, session)
        records = eventlog.scan(session.journal_path)
        print(json.dumps([record.fields for record in records if record.event == "sample"]))
        """,
    )

    assert copied == [{"iter": 3, "score": 0.5, "text": "ein Satz", "durable": 1}]


def test_exports_have_its_rows_and_numbers(tmp_path):
    rows, points = with_new_kind(
        tmp_path,
        """
        from tools.core.history import History
        from tools.transfer.targets import csv
        history = History(run)
        csv.export(history, folder)
        print(json.dumps([(folder / "a" / "samples.csv").read_text(),
                          [point.values for point in history.points()]]))
        """,
    )

    assert rows == "iter,score,text\n3,0.5,ein Satz\n"
    assert points == [{"sample/score": 0.5}]


def test_an_import_of_a_guides_run_json_has_its_rows(tmp_path):
    events = with_new_kind(
        tmp_path,
        """
        from tools.transfer.sources.guide import _events
        run.training_iterations = [{"iter": 3, "loss": 2.0}]
        print(json.dumps(list(_events(run, []))))
        """,
    )

    assert [kind for kind, _ in events] == ["sample", "iter"]


def test_an_archive_has_its_table(tmp_path):
    pytest.importorskip("pyarrow")
    columns = with_new_kind(
        tmp_path,
        """
        from tools.archive.columns import tables_of
        from tools.core.history import History
        table = tables_of(History(run))["samples"]
        print(json.dumps(table.drop_columns(["run", "run_id"]).to_pydict()))
        """,
    )

    assert columns == {"iter": [3], "score": [0.5], "text": ["ein Satz"], "extra": [None]}


def test_terminal_and_page_mark_it(tmp_path):
    marks, row = with_new_kind(
        tmp_path,
        """
        import numpy as np
        from tools.live.following import Following
        from tools.terminal.braille import Frame
        from tools.terminal.chart import Drawing, _mark_row
        from tools.live.marks import places
        following = Following(journal())
        while following.read_on():
            pass
        marks = list(places(following, "iter"))
        drawing = Drawing("loss", [], [], Frame(0.0, 10.0, 0.0, 1.0, False), marks)
        known = [mark["kind"] for mark in following.content.marks]
        print(json.dumps([known, "".join(letter for letter, _ in _mark_row(drawing, 10))]))
        """,
    )

    assert "sample" in marks
    assert "s" in row


def test_the_guard_learns_how_often_it_comes(tmp_path):
    gaps = with_new_kind(
        tmp_path,
        """
        from tools.monitor.vitals import Vitals
        from tools.monitor.rules import Limits
        vitals = Vitals(Limits())
        for record in eventlog.scan(journal()):
            vitals.add(record)
        print(json.dumps(list(vitals._gaps)))
        """,
    )

    assert "sample" in gaps
