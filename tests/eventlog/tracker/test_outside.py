"""What whoever starts a program says of all runs in it, such as the sweep they are part of."""

import pytest

import eventlog


def test_metadata_told_from_outside_are_the_runs_and_its_own_go_first(tmp_path, monkeypatch):
    monkeypatch.setenv("EVENTLOG_METADATA", '{"group": "sweep", "device": "none"}')

    with eventlog.open_run(tmp_path, metadata={"device": "cpu"}, save_interval=0) as run:
        pass

    metadata = eventlog.load_run(run.journal_path).metadata
    assert metadata == {"group": "sweep", "device": "cpu"}


@pytest.mark.parametrize("words", ["{", "nan", "\udcff"])
def test_words_that_are_no_json_are_left_out_and_said(tmp_path, monkeypatch, capsys, words):
    monkeypatch.setenv("EVENTLOG_METADATA", words)

    with eventlog.open_run(tmp_path, save_interval=0) as run:
        pass

    assert eventlog.load_run(run.journal_path).metadata == {}
    assert "EVENTLOG_METADATA" in capsys.readouterr().err
