"""Exports to MLflow, trackio and W&B, read back by their own readers, and killed: the long form.

pip install -e '.[test,peers]' && pytest -n 0 -m slow tests/tools/transfer/test_export_peers.py
"""

import sys

import pytest

import eventlog
from tests.tools.transfer.readers import READERS, export_peer, read_peer
from tests.tools.transfer.test_export import (
    EVAL_TRACKER,
    TRACKER,
    Exporter,
    Logged,
    export_and_kill,
    same,
)
from tools.transfer.sources.wandb_file import records

pytestmark = pytest.mark.slow


def expected(logged, to):
    points = logged.points(TRACKER, **EVAL_TRACKER)
    if to == "mlflow":  # its databases have no infinities, and no sign of zero
        points = {
            k: max(-sys.float_info.max, min(v, sys.float_info.max)) if v == v else v
            for k, v in points.items()
        }
    if to in ("mlflow", "wandb"):
        points = {k: v + 0.0 for k, v in points.items()}
    return points


def checkpoint_free(found):
    return {k: v for k, v in found.items() if not k[0].startswith("checkpoint/")}


@pytest.fixture(params=READERS)
def to(request):
    pytest.importorskip(request.param, reason=f"pip install {request.param}")
    return request.param


def test_every_value_is_exported_with_its_step_and_the_configuration(to, tmp_path):
    logged = Logged(tmp_path / "runs")
    logged.take(0, 60)
    logged.close()

    export_peer(logged.path, to, tmp_path / "out")

    found, printed = read_peer(to, tmp_path / "out")
    same(checkpoint_free(found), expected(logged, to))
    assert {found["checkpoint/val_loss", 0], found["checkpoint/size_bytes", 0]} == {2.5, 7.0}
    assert float(printed["config"]["lr"]) == 6e-4
    assert printed["status"] in ("FINISHED", "", 0)


def test_a_run_that_grows_and_rewinds_is_archived_as_it_is_now(to, tmp_path):
    logged = Logged(tmp_path / "runs")
    states = []
    for first, last, take in [(0, 30, 1), (30, 40, 1), (40, 40, 1), (20, 35, 2)]:
        if first != last:
            logged.take(first, last, take)
        states.append(export_peer(logged.path, to, tmp_path / "out")["state"])
        found, _ = read_peer(to, tmp_path / "out")
        same(found, expected(logged, to))
    logged.close()

    grown = "replaced" if to == "wandb" else "continued"
    assert states == ["new", grown, "unchanged", "replaced"]


def test_an_export_killed_at_20_moments_and_run_again_has_each_point_once(to, tmp_path):
    logged = Logged(tmp_path / "runs")
    with Exporter(logged.path, to, tmp_path) as exporter:
        n_killed = export_and_kill(exporter, logged)
    export_peer(logged.path, to, tmp_path / "out")

    found, _ = read_peer(to, tmp_path / "out")
    assert n_killed == 20
    same(found, expected(logged, to))
    assert export_peer(logged.path, to, tmp_path / "out")["state"] == "unchanged"
    logged.close()


def test_what_a_run_defines_of_its_metrics_is_in_the_file_of_wandb(tmp_path):
    pytest.importorskip("wandb", reason="pip install wandb")
    with eventlog.init(dir=tmp_path / "runs", save_interval=0) as run:
        run.define_metric("val/*", step_metric="epoch", summary="best", goal="maximize")
        run.define_metric("*r", hidden=True, summary=["min", "last"])
        for k in range(3):
            run.log({"epoch": k, "val/acc": k / 3, "lr": 0.1})
    places = [export_peer(run.session.run_path, "wandb", tmp_path / "out") for _ in range(2)]

    assert [place["state"] for place in places] == ["new", "unchanged"]
    (file,) = (tmp_path / "out").glob("wandb/*/*.wandb")
    assert [metric_of(record) for kind, record in records(file) if kind == "metric"] == [
        ("val/*", "epoch", False, {"max"}),
        ("lr", "", True, {"min", "last"}),
    ]


def metric_of(record):
    summary = {field.name for field, _ in record.summary.ListFields()}
    return (
        record.name or record.glob_name, record.step_metric, record.options.hidden, summary,
    )  # fmt: skip
