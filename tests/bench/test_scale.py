"""The data sets of the scale rows, a hundredth of each: what tools read is what was written."""

import pytest

import eventlog
from tests.bench import scale
from tests.bench.trackers import json_rewrite


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


def test_another_tracker_gets_the_same_values(tmp_path):
    data = scale.part_of("steps", 100_000)

    rows = dict(scale.beside(tmp_path, data, "json_rewrite"))

    assert list(rows) == ["json_rewrite, write", "json_rewrite, read one series"]
    logged = [v for v in json_rewrite.read(tmp_path / "run0") if v[1] == "group0/series_aa"]
    assert [(step, v) for step, _, v in logged] == [
        (step, scale.value_of(0, step, 0)) for step in range(data.steps)
    ]
