"""Values of series of every run of a folder: those that each run logged, read once."""

import math

import pytest

import eventlog
from tools.core import runs
from tools.core.series import Source
from tools.live.folders import Folders
from tools.live.values import SeriesValues

STATS = ("", ":last", ":min", ":max", ":best", ":mean", ":first", ":count", "@1", "@9")
NO_TIME, TIME = -1.0, 20.0


@pytest.fixture
def folders(tmp_path):
    """A run of metrics and one with iterations, which ended, and one that goes on."""
    with eventlog.open_run(tmp_path, run_name="metrics", save_interval=0) as run:
        for i in range(3):
            run.log("metrics", step=i, **{"val/acc": 0.5 + i, "bad": math.nan})
    eventlog.compact(run.journal_path)
    with eventlog.open_run(tmp_path, run_name="rows", save_interval=0) as run:
        for i in range(3):
            run.log_iter(i, 3.0 - i, 10.0)
    eventlog.compact(run.journal_path)
    with eventlog.open_run(tmp_path, run_name="live", save_interval=0) as run:
        for i, value in enumerate((7.0, 6.0)):
            run.log("metrics", step=i, **{"val/acc": value, "bad": math.nan})
        folders = Folders([str(tmp_path)])
        read(folders)
        yield folders, run


def read(folders):
    folders.refresh()
    while folders.read_on():
        pass


def by_name(folders, values):
    names = {entry.id: entry.row["run"].split("_")[0] for entry in folders.readable()}
    return {names[id]: of_run for id, of_run in values.items()}


@pytest.mark.parametrize("stat", STATS)
@pytest.mark.parametrize("name", ["val/acc", "loss", "bad"])
def test_the_values_of_each_run_are_those_of_its_files(folders, name, stat):
    asked = name + stat
    values = SeriesValues(folders[0])

    left = values.read([asked], TIME)

    assert left == 0
    found = by_name(folders[0], values.known([asked]))
    for entry in folders[0].readable():
        source = Source(runs.load_at(entry.path))
        expected = source.values(asked).get(asked)
        shown = found.get(source.run.run_name.split("_")[0], {}).get(asked)
        assert shown == (str(expected) if expected != expected else expected)


def test_what_was_not_read_in_time_is_counted_and_read_later(folders):
    values = SeriesValues(folders[0])

    left = values.read(["val/acc"], NO_TIME)

    assert left == 3
    assert values.known(["val/acc"]) == {}
    assert values.read(["val/acc"], TIME) == 0
    assert len(values.known(["val/acc"])) == 2


def test_of_a_run_that_grows_only_its_new_value_is_sent(folders):
    values = SeriesValues(folders[0])
    values.read(["val/acc"], TIME)
    before = values.version

    folders[1].log("metrics", step=2, **{"val/acc": 8.0})
    read(folders[0])
    values.read(["val/acc"], TIME)

    assert by_name(folders[0], values.known(["val/acc"], before)) == {"live": {"val/acc": 8.0}}


def test_the_names_of_all_series_are_known_with_the_number_of_their_runs(folders):
    values = SeriesValues(folders[0])

    left = values.read_names(TIME)

    assert left == 0
    assert values.counts() == {"val/acc": 2, "bad": 2, "loss": 1, "time_ms": 1}
    assert values.named["val/acc"].goal == "maximize"
