"""Runs that differ in the seed alone, as one: the page's numbers are those of `core.seeds`."""

import struct

import numpy as np
import orjson
import pytest

import eventlog
from tests.tools.dashboard.pages import serving_here, until
from tools.cli import main
from tools.core import rows as rows_
from tools.core import runs, seeds
from tools.dashboard import run_groups

LRS, N_SEEDS, N_STEPS = (0.1, 0.01, 0.001), 5, 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three settings with five seeds each; evaluations of each seed at steps of its own."""
    out = tmp_path_factory.mktemp("seeds")
    rng = np.random.default_rng(1)
    for lr in LRS:
        for seed in range(N_SEEDS):
            config = {"lr": lr, "seed": seed, "out_dir": f"out{seed}"}
            with eventlog.open_run(
                out, run_name=f"lr{lr}s{seed}", config=config, save_interval=0, durability="never"
            ) as run:
                for i in range(N_STEPS):
                    run.log_iter(i, 3.0 + lr + rng.normal(), 50.0)
                    if i % (3 + seed) == 0:
                        run.log_eval(i, 3.0, 3.0 + rng.normal())
            eventlog.compact(run.journal_path)
    return out


@pytest.fixture(scope="module")
def server(folder):
    with serving_here(folder) as server:
        until(lambda: server.json("/api/runs")["complete"])
        yield server


def log_two_seeds(folder, n_steps, loss):
    """Two runs of one setting; `loss` is called with step and seed."""
    for seed in range(2):
        config = {"seed": seed}
        with eventlog.open_run(
            folder, run_name=f"s{seed}", config=config, save_interval=0, durability="never"
        ) as run:
            for i in range(n_steps):
                run.log_iter(i, loss(i, seed), 50.0)


def loaded(folder):
    """The runs in the groups of `core.seeds`, as `runs plot --group-by seeds` has them."""
    found = {f.run.run_name: f for f in runs.load([str(folder)])}
    rows = [rows_.row(one) for one in found.values()]
    return {
        group.name: (group, [found[row["run"]].run for row in group.rows])
        for group in seeds.groups(rows)
    }


def grouped(server, keys, **options):
    """The groups of an answer to /api/curves, each with the arrays of its series by key."""
    ids = ",".join(row["id"] for row in server.rows().values())
    query = "".join(f"&{k}={v}" for k, v in ({"group": "seeds"} | options).items())

    def read():
        _, _, body = server.get(f"/api/curves?runs={ids}&keys={keys}{query}")
        (size,) = struct.unpack_from("<I", body)
        head = orjson.loads(body[4 : 4 + size])
        are_read = [any(r["rows"].values()) and r["reading"] is None for r in head["runs"]]
        return (head, body) if all(are_read) else None

    head, body = until(read)
    at = 4 + struct.unpack_from("<I", body)[0]
    for group in head["groups"]:
        for series in group["series"]:
            more = ("mean_x", "means", "counts") if series["means"] else ()
            n_means = series["means"]
            for name in ("x", "y", *more, "std", "low", "high", "n_runs"):
                n = n_means if name in more else series["n"]
                series[name] = np.frombuffer(body, "<f8", n, at)
                at += 8 * n
    assert at == len(body)
    return {group["name"]: {s["key"]: s for s in group["series"]} for group in head["groups"]}


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_the_mean_and_the_band_of_a_group_are_those_of_seeds(server, folder):
    expected = loaded(folder)

    answer = grouped(server, "loss%0Aeval/val_loss")

    assert answer.keys() == expected.keys() == {f"lr={lr}" for lr in LRS}
    for name, (_, members) in expected.items():
        for key, table, column in (
            ("loss", "iterations", "loss"), ("eval/val_loss", "evals", "val_loss")
        ):  # fmt: skip
            rows = [[*run.rows(table)] for run in members]
            band = seeds.band([([r["iter"] for r in of], [r[column] for r in of]) for of in rows])
            series = answer[name][key]
            assert series["runs"] == N_SEEDS
            close(series["x"], band.steps)
            for part, of in (("y", band.mean), ("std", band.std), ("low", band.low),
                             ("high", band.high), ("n_runs", band.n)):  # fmt: skip
                close(series[part], of)


def test_the_mean_and_the_band_of_a_group_are_those_of_numpy(server, folder):
    for name, (_, members) in loaded(folder).items():
        losses = np.array([[row["loss"] for row in run.rows("iterations")] for run in members])

        series = grouped(server, "loss")[name]["loss"]

        close(series["y"], losses.mean(axis=0))
        close(series["std"], losses.std(axis=0, ddof=1))
        close(series["low"], losses.min(axis=0))
        close(series["high"], losses.max(axis=0))


def test_the_table_has_the_mean_and_the_standard_deviation_of_scipy(server, folder):
    stats = pytest.importorskip("scipy.stats")

    answer = server.json("/api/groups?by=seeds")["groups"]

    for name, (group, members) in loaded(folder).items():
        (shown,) = [one for one in answer if one["name"] == name]
        finals = [run.summary["final_train_loss"] for run in members]
        known, of = stats.describe(finals), shown["stats"]["final_loss"]
        assert of["n"] == known.nobs == len(shown["ids"])
        close([of["mean"], of["std"]], [known.mean, np.sqrt(known.variance)])
        close([of["min"], of["max"]], known.minmax)
        assert of["text"] == group.stat("final_loss").text()


def test_the_differences_of_groups_are_those_of_scipy_and_of_runs_compare(server, folder, capsys):
    stats = pytest.importorskip("scipy.stats")
    ids = [row["id"] for row in server.rows().values()]
    known = loaded(folder)

    first, *others = server.json(f"/api/compare?by=seeds&runs={','.join(ids)}")["groups"]

    losses = {
        name: [run.summary["best_val_loss"] for run in members]
        for name, (_, members) in known.items()
    }
    assert "differences" not in first
    for one in others:
        of = one["differences"]["best_val_loss"]
        of_scipy = stats.ttest_ind(losses[one["name"]], losses[first["name"]], equal_var=False)
        close(of["p"], of_scipy.pvalue)
        close(of["diff"], np.mean(losses[one["name"]]) - np.mean(losses[first["name"]]))
    names = [[run.path for run in known[of["name"]][1]] for of in (first, *others)]
    main(["compare", "--group-by", "seeds", "--json", *[str(p) for of in names for p in of]])
    compared = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    for key, series, value in (
        ("best_val_loss", "eval/val_loss", "best"), ("final_loss", "loss", "last")
    ):  # fmt: skip
        rows = {row["group"]: row for row in compared if row["series"] == series}
        for one in (first, *others):
            assert one["stats"][key].items() >= rows[one["name"]][value].items()
        for one in others:
            assert one["differences"][key]["p"] == rows[one["name"]][f"{value}_p"]


def test_a_group_of_one_run_has_no_p_value_and_the_answer_says_why(server):
    rows = sorted(server.rows().values(), key=lambda row: (row["config"]["lr"], row["id"]))

    ids = ",".join(row["id"] for row in rows[: N_SEEDS + 1])
    answer = server.json(f"/api/compare?by=seeds&runs={ids}")

    _, alone = answer["groups"]
    of = alone["differences"]["final_loss"]
    assert (of["p"], of["p_text"]) == (None, None)
    why = "no p-value, n = 1: the test needs two values on each side"
    assert answer["notes"][1:] == [f"{alone['name']}: {why}"]


def test_without_scipy_groups_are_compared_without_p_values(server, monkeypatch):
    def refuse(name):
        raise runs.Refusal(f"{name} is not installed")

    monkeypatch.setattr(seeds, "need", refuse)
    ids = ",".join(row["id"] for row in server.rows().values())

    answer = server.json(f"/api/compare?by=seeds&runs={ids}")

    assert len(answer["groups"]) == len(LRS)
    assert answer["notes"] == ["no p-values: scipy.stats is not installed"]


def test_runs_are_grouped_by_keys_of_ones_choice_and_an_unknown_key_is_an_error(server):
    by_seed = server.json("/api/groups?by=config.seed")
    wrong = server.json("/api/groups?by=config.sead")
    drawn = grouped(server, "loss", group="config.sead")

    assert {one["name"]: len(one["ids"]) for one in by_seed["groups"]} == {
        f"seed={k}": len(LRS) for k in range(N_SEEDS)
    }
    assert by_seed["notes"][0] == "seed=0: its runs also differ in lr"
    assert "Did you mean config.seed" in wrong["error"]
    assert drawn == {}


def test_the_groups_are_of_the_runs_that_the_filter_leaves(server):
    by_expression = server.json("/api/groups?by=seeds&q=lr%3C0.05")["groups"]
    by_words = server.json("/api/groups?by=seeds&words=s1%20LR0.1")["groups"]

    assert {one["name"] for one in by_expression} == {"lr=0.01", "lr=0.001"}
    assert [len(one["ids"]) for one in by_words] == [1]


@pytest.mark.parametrize(
    ("config", "n_groups"),
    [
        ({"prompt": "x" * 2_000 + "{}"}, 2),
        ({"layers": [*range(500), "{}"]}, 2),
        ({f"k{k}": 0 for k in range(600)} | {"last": "{}"}, 2),
        ({f"k{k}": 0 for k in range(600)} | {"seed": "{}"}, 1),
    ],
)
def test_settings_that_the_table_cuts_still_tell_runs_apart(tmp_path, config, n_groups):
    for name in ("left", "right"):
        filled = orjson.loads(orjson.dumps(config).replace(b"{}", name.encode()))
        with eventlog.open_run(tmp_path, run_name=name, config=filled, save_interval=0) as run:
            run.log_iter(0, 1.0, 50.0)
    with serving_here(tmp_path) as server:
        until(lambda: len(server.rows()) == 2)

        groups = server.json("/api/groups?by=seeds")["groups"]

    assert len(groups) == n_groups


def test_an_unknown_key_reads_no_run(server, monkeypatch):
    monkeypatch.setattr(runs, "load_at", lambda path: pytest.fail(f"{path} was read"))

    assert "unknown" in server.json("/api/groups?by=nothing/like/it")["error"]


def test_a_spike_of_the_mean_is_drawn_at_every_zoom(tmp_path):
    log_two_seeds(tmp_path, 5_000, lambda i, seed: 99.0 if i == 3_210 else 3.0 + seed)
    with serving_here(tmp_path) as server:
        until(lambda: len(server.rows()) == 2)

        series = grouped(server, "loss", px=100)["all"]["loss"]

    at = int(np.argmax(series["y"]))
    assert series["thinned"]
    assert series["n"] < 500
    assert (series["x"][at], series["y"][at], series["std"][at]) == (3_210, 99.0, 0.0)
    assert set(np.delete(series["y"], at)) == {3.5}


def test_a_metric_that_is_not_finite_in_one_run_is_marked_and_not_averaged(tmp_path):
    for seed in range(3):
        with eventlog.open_run(
            tmp_path, run_name=f"s{seed}", config={"seed": seed}, save_interval=0
        ) as run:
            for i in range(4):
                bad = seed == 0 and i == 2
                run.log("metrics", step=i, acc=float("nan") if bad else float(seed))
    with serving_here(tmp_path) as server:
        until(lambda: len(server.rows()) == 3)

        series = grouped(server, "acc")["all"]["acc"]

    assert series["nonfinite"] == [[2.0, "nan"]]
    assert series["n_runs"].tolist() == [3, 3, 2, 3]
    assert series["y"].tolist() == [1.0, 1.0, 1.5, 1.0]


def test_runs_with_too_many_values_are_averaged_over_short_ranges_and_that_is_said(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(run_groups, "CELLS_MAX", 1)
    monkeypatch.setattr(run_groups, "ROWS_MIN", 100)
    log_two_seeds(tmp_path, 3_000, lambda i, seed: 2.0 * seed + i / 1_000)
    with serving_here(tmp_path) as server:
        until(lambda: len(server.rows()) == 2)

        whole = grouped(server, "loss", px=50)["all"]["loss"]
        part = grouped(server, "loss", px=50, **{"from": 1_000, "to": 1_040})["all"]["loss"]

    assert (whole["averaged"], part["averaged"]) == (2, 0)
    inside = (whole["x"] > 100) & (whole["x"] < 2_900)
    # the mean of a range stands at its middle row, at most half a step from its middle
    line = 1.0 + whole["x"][inside] / 1_000
    np.testing.assert_allclose(whole["y"][inside], line, atol=0.000_51)
    close(part["y"], 1.0 + part["x"] / 1_000)
    close(part["std"], np.sqrt(2.0))


def test_a_run_that_has_a_series_by_another_axis_is_left_out_and_counted(tmp_path):
    for seed in range(3):
        with eventlog.init(name=f"s{seed}", dir=tmp_path, config={"seed": seed}, quiet=True) as run:
            if seed < 2:
                run.define_metric("acc", step_metric="epoch")
            for i in range(3):
                run.log({"acc": float(seed), "epoch": 10 * i}, step=i)
    with serving_here(tmp_path) as server:
        until(lambda: len(server.rows()) == 3)

        series = grouped(server, "acc")["all"]["acc"]

    assert series["axis"] in ("epoch", "iter")
    assert (series["runs"], series["others"]) == ((2, 1) if series["axis"] == "epoch" else (1, 2))


@pytest.mark.parametrize("ended", [True, False])
def test_runs_without_a_loss_are_compared_by_their_metrics_as_runs_compare_does(
    tmp_path, capsys, ended
):
    rng = np.random.default_rng(5)
    for lr in (0.1, 0.2):
        for seed in range(3):
            with eventlog.init(
                name=f"{lr}-{seed}", dir=tmp_path, config={"lr": lr, "seed": seed}, quiet=True
            ) as run:
                for i in range(4):
                    run.log({"acc": lr + rng.random(), "speed": rng.random()}, step=i)
            if ended:
                eventlog.compact(run.journal_path)
    with serving_here(tmp_path) as server:
        until(lambda: len(server.rows()) == 6)
        rows = server.rows().values()
        ids = ",".join(row["id"] for row in rows)
        answer = server.json(f"/api/compare?by=seeds&runs={ids}")
    main(["compare", "--group-by", "seeds", "--json", *[row["path"] for row in rows]])

    known = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["key"] for r in answer["series"]] == ["acc:best", "acc:last", "speed:last"]
    (reason,) = answer["notes"][1:]
    assert reason == f"{known[1]['group']}, iterations: no p-value, no spread on either side"
    for row in known:
        (of,) = [one for one in answer["groups"] if one["name"] == row["group"]]
        for part in ("best", "last"):
            if row[part]["n"]:
                key = f"{row['series']}:{part}"
                assert of["stats"][key].items() >= row[part].items()
                assert of.get("differences", {}).get(key, {}).get("p") == row[f"{part}_p"]
