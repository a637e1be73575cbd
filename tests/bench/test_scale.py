"""The data sets of the scale rows, a hundredth of each: what tools read is what was written."""

import time

import pytest

import eventlog
from tests.bench import scale
from tools.core import index


@pytest.mark.parametrize("name", ["steps", "wide", "many"])
def test_a_hundredth_of_a_data_set_is_read_whole(name, tmp_path):
    data = scale.part_of(name, 100 if name == "many" else 1000)
    scale.generate(tmp_path, data, closed=name != "steps")

    paths = sorted(tmp_path.glob("*.jsonl"))

    assert len(paths) == data.runs
    for k, path in list(enumerate(paths))[:3]:
        run = eventlog.load_run(path)
        assert run.status == ("interrupted" if name == "steps" else "completed")
        points = [*run.points("group0/series_ab")]
        assert points == [(step, scale.value_of(k, step, 1)) for step in range(data.steps)]
        assert len(run.series()) == data.series


def test_a_second_query_takes_less_time_than_the_first(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNS_CACHE", str(tmp_path / "cache"))
    scale.generate(tmp_path, scale.part_of("steps", 200), closed=True)
    eventlog.compact(tmp_path / "run00000.jsonl")
    time.sleep(1.5 * index.SETTLED_S)

    first, second = (scale.command("query", "select max(value) from series", tmp_path)
                     for _ in range(2))  # fmt: skip

    assert second.core_s < first.core_s  # the peak of a child is at least that of this process
