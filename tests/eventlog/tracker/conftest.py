"""Runs of `init` in a folder of the test's own."""

import os

import pytest

import eventlog
from eventlog.write import messages


@pytest.fixture
def clean(monkeypatch, tmp_path):
    """No run, no message printed so far, a folder of its own, no relevant variables."""
    for name in list(os.environ):
        if name.startswith(("EVENTLOG_", "WANDB_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(messages, "_printed", set())
    monkeypatch.setattr("eventlog.tracker.api._before", {})
    yield
    eventlog.finish()


def begin(**arguments):
    return eventlog.init(**{"dir": "out", "save_interval": 0} | arguments)


def loaded(run):
    return eventlog.load_run(run.journal_path)
