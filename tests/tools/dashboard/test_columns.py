"""Which columns the table of runs has by default, which there are, and filters by series."""

from urllib.parse import quote

import pytest

import eventlog
from tests.tools.dashboard.pages import serving_here, until


def make_sweep(folder, n=12):
    """Runs of which `val/acc` depends on `lr` alone."""
    for k in range(n):
        config = {
            "dropout": k % 2, "lr": 0.1 * (1 + k // 4), "same": 1, "seed": k,
            "out_dir": f"/out/{k}",
        }  # fmt: skip
        with eventlog.open_run(
            folder, run_name=f"r{k:02}", config=config, metadata={"group": f"g{k % 2}"},
            save_interval=0, durability="never",
        ) as run:  # fmt: skip
            for i in range(2):
                values = {"val/acc": k // 4 / 10 + i / 100 + k / 3e4, "val/loss": 3.0 - k // 4 - i}
                run.log("metrics", step=i, **values)
            if k == 3:
                run.log("note", text="after the outage")
                run.log("tag", add=["kept"])
        eventlog.compact(run.journal_path)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep")
    make_sweep(out)
    with serving_here(out) as server:
        until(lambda: len(server.rows()) == 12)
        yield server


def where(server, expression):
    """The names of the runs that an expression leaves."""
    found = server.json(f"/api/where?q={quote(expression)}")
    names = {row["id"]: row["run"].split("_")[0] for row in server.rows().values()}
    return found.get("error") or [names[id] for id in found["ids"]]


def test_the_columns_are_what_differs_and_the_setting_that_decides_is_before_the_others(server):
    columns = server.json("/api/columns")["default"]

    assert columns == [
        "status", "run", "best_val_loss", "val/acc:best", "config.lr", "config.dropout",
        "config.seed", "metadata.group", "started", "note",
    ]  # fmt: skip


def test_every_setting_and_every_series_can_be_a_column(server):
    offered = until(lambda: (of := server.json("/api/columns"))["left"] == 0 and of)

    assert {"config.same", "config.out_dir", "metadata.group"} <= {*offered["settings"]}
    assert offered["series"] == [
        {"key": "val/acc", "name": "val/acc", "n_runs": 12},
        {"key": "val/loss", "name": "val/loss", "n_runs": 12},
    ]


def test_a_series_that_is_called_like_a_setting_has_its_table_before_its_name(tmp_path):
    with eventlog.open_run(tmp_path, run_name="r", config={"lr": 1.0}, save_interval=0) as run:
        run.log("metrics", step=0, lr=0.5, status=3.0)
    with serving_here(tmp_path) as server:
        until(server.rows)
        series = server.json("/api/columns")["series"]
        (values,) = server.json("/api/values?names=metrics/lr%0Ametrics/status")["values"].values()

    assert [one["key"] for one in series] == ["metrics/lr", "metrics/status"]
    assert values == {"metrics/lr": 0.5, "metrics/status": 3.0}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("val/acc:max > 0.21 and config.dropout = 1", ["r09", "r11"]),
        ("note like '%outage%'", ["r03"]),
        ("tags like '%kept%'", ["r03"]),
        ("metadata.group = 'g1' and val/loss@0 < 2", ["r09", "r11"]),
    ],
)
def test_runs_are_filtered_by_series_notes_tags_and_groups(server, expression, expected):
    assert where(server, expression) == expected


def test_a_filter_by_an_unknown_series_names_a_similar_one(server):
    assert "Did you mean val/acc" in where(server, "val/acx > 0.5")
