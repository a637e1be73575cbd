"""The data sets of the scale rows, a hundredth of each: what tools read is what was written."""

import pytest

import eventlog
from tests.bench import scale


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


def test_a_second_start_takes_less_than_the_first_and_needs_less_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNS_CACHE", "off")  # `measure` sets it for its own processes
    data = scale.part_of("steps", 200)
    scale.generate(tmp_path, data)

    took = dict(scale.measure(tmp_path, data))

    name = "`runs query` of its series, with run JSON"
    assert took[f"{name}, second"].core_s < took[f"{name}, first"].core_s
    assert took[f"{name}, second"].peak_mb < took[f"{name}, without a cache"].peak_mb
