"""Metadata from the environment, such as the sweep to which a run belongs."""

import pytest

import eventlog


def test_metadata_from_the_environment_is_added_to_the_runs_own(tmp_path, monkeypatch):
    monkeypatch.setenv("EVENTLOG_METADATA", '{"group": "sweep", "device": "none"}')

    with eventlog.open_run(tmp_path, metadata={"device": "cpu"}, save_interval=0) as run:
        pass

    metadata = eventlog.load_run(run.journal_path).metadata
    assert metadata == {"group": "sweep", "device": "cpu"}


@pytest.mark.parametrize("text", ["{", "nan", "\udcff"])
def test_an_environment_variable_that_is_not_json_is_ignored_and_reported(
    tmp_path, monkeypatch, capsys, text
):
    monkeypatch.setenv("EVENTLOG_METADATA", text)

    with eventlog.open_run(tmp_path, save_interval=0) as run:
        pass

    assert eventlog.load_run(run.journal_path).metadata == {}
    assert "EVENTLOG_METADATA" in capsys.readouterr().err
