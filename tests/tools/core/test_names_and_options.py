"""Input from users: several names of a field, invalid numbers, folders with ambiguous contents."""

import orjson
import pytest

import eventlog
from tests.tools.conftest import make_run
from tools.archive import prune
from tools.cli import main
from tools.core import rows, runs, where
from tools.core.rows import OTHER_NAMES


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    make_run(folder, "low", (5.0, 3.0))
    make_run(folder, "high", (5.0, 4.0))
    return folder


def listed(capsys, *args):
    assert main([*map(str, args), "--json"]) == 0
    found = map(orjson.loads, capsys.readouterr().out.splitlines())
    return [row["path"].rpartition("/")[2] for row in found]


# ---- numbers


@pytest.mark.parametrize(
    "args",
    [
        ["ls", "--limit", "-1"], ["ls", "--limit=-1"], ["ls", "--limit", "2.5"],
        ["ls", "--limit", "9" * 5_000], ["compare", "--at-iter", "-1", "x"],
        ["compare", "--at-time", "-1", "x"], ["compare", "--at-time", "nan", "x"],
        ["compare", "--at-tokens", "-5", "x"], ["compare", "--tolerance", "-1", "x"],
        ["prune", "x", "--keep-best", "-1"], ["serve", "--port", "-1"], ["serve", "--port", "x"],
        ["tune", "x", "--jobs", "-1"], ["tune", "x", "--trials", "-1"],
        ["tune", "x", "--seed", "-1"],
        ["tune", "x", "--timeout", "-1"], ["tune", "x", "--grace", "-1"],
        ["tune", "x", "--silence", "0"], ["tune", "x", "--failures", "0"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_an_invalid_number_is_refused_in_one_line(args, capsys):
    assert main(args) == 2

    output, err = capsys.readouterr()
    assert (output, err.count("\n")) == ("", 1)
    assert "must be a " in err
    assert ", got '" in err


def test_a_limit_of_zero_and_of_one_is_exact(out, capsys):
    assert listed(capsys, "ls", out, "--limit", 0) == []
    assert listed(capsys, "ls", out, "--limit", 1) == ["low.json"]


# ---- names


@pytest.mark.parametrize(
    ("own", "other"), [(own, name) for own, names in OTHER_NAMES.items() for name in names]
)
def test_every_flag_accepts_each_usual_name_of_a_field(out, capsys, own, other):
    quoted = f'"{other}"'

    assert listed(capsys, "ls", out, "--sort", other) == listed(capsys, "ls", out, "--sort", own)
    assert listed(capsys, "ls", out, "--where", f"{quoted} is not null") == listed(
        capsys, "ls", out, "--where", f"{own} is not null"
    )
    assert main(["ls", str(out), "--csv", "--columns", f"path,{other}"]) == 0
    by_other = capsys.readouterr().out.splitlines()
    assert main(["ls", str(out), "--csv", "--columns", f"path,{own}"]) == 0
    by_own = capsys.readouterr().out.splitlines()
    assert by_other[0] == f"path,{other}"
    if own != "age_s":  # that changes
        assert by_other[1:] == by_own[1:]


def test_the_best_run_is_found_by_any_name_of_the_field(out, capsys):
    for metric in ("final_train_loss", "final_loss"):
        assert listed(capsys, "best", out, "--metric", metric) == ["low.json"]


# ---- the best run


def test_a_run_without_evals_is_not_the_best_nor_is_nanogpts_first_loss(out, capsys):
    make_run(out, "none", ())
    old = {
        "run_name": "old", "start_time": "2025-01-01T00:00:00", "end_time": None, "config": {},
        "training_iterations": [], "eval_steps": [], "checkpoints": [], "metadata": {},
        "summary": {"total_iterations": 0, "final_iter": 0, "best_val_loss": 1e9},
    }  # fmt: skip
    for name in ("old", "older"):
        evals = [{"iter": 0, "train_loss": 2.0, "val_loss": 2.0}] if name == "older" else []
        data = orjson.dumps(old | {"eval_steps": evals}, option=orjson.OPT_INDENT_2)
        (out / f"{name}.json").write_bytes(data)

    (row,) = where.select([rows.row(runs.glance_at(out / "old.json"))], "true")

    assert row["best_val_loss"] is None
    assert listed(capsys, "best", out) == ["older.json"]
    assert listed(capsys, "best", out, "--metric", "-best_val_loss") == ["high.json"]


# ---- a study and runs


def test_a_study_is_not_made_in_a_folder_that_has_runs(out, capsys):
    args = ["tune", str(out), "--param", "lr=log 1e-4..1e-2"]

    assert main(args) == 2

    assert "has 2 runs (" in capsys.readouterr().err
    assert not (out / "study.jsonl").exists()
    assert listed(capsys, "ls", out) == ["low.json", "high.json"]


def test_a_folder_with_a_study_and_runs_shows_both(out, capsys):
    (out / "study.jsonl").touch()
    eventlog.open_run(out, journal=out / "study.jsonl", save_interval=0).close()
    (out / "trial_0000").mkdir()
    make_run(out / "trial_0000", "trial", (5.0, 3.5))

    assert listed(capsys, "ls", out) == ["low.json", "trial.json", "high.json"]


def test_prune_deletes_the_files_of_exactly_the_run_it_selected(out):
    (out / "study.jsonl").touch()
    (out / "trial_0000").mkdir()
    make_run(out / "trial_0000", "low", (5.0, 6.0))  # a trial with the name of a run

    candidates = prune.select_candidates(out, keep_best=2)
    for candidate in candidates:
        if candidate.goes:
            prune.delete(candidate)

    assert (out / "low.jsonl").exists()
    assert not (out / "trial_0000" / "low.jsonl").exists()


# ---- frames


def test_a_frame_of_runs_has_a_row_per_run_with_its_summary_and_config(out):
    pytest.importorskip("pandas")
    from tools.transfer.frame import frame_of_runs

    whole = frame_of_runs([out]).set_index("run")
    one = frame_of_runs([out / "low.json"])
    loaded = frame_of_runs([eventlog.load_run(out / "low.json"), out / "high.json"])

    assert sorted(whole["best_val_loss"]) == [3.0, 4.0]
    assert whole["config.max_iters"].tolist() == [2, 2]
    assert one["best_val_loss"].tolist() == [3.0]
    assert loaded["best_val_loss"].tolist() == [3.0, 4.0]


def test_cfg_is_config_unless_a_setting_has_that_name():
    row = {"config": {"cfg": {"lr": 1}, "lr": 2, "depth": 3, "null": None}, "metadata": {}}

    values = [rows.value(row, name) for name in ("cfg.lr", "config.lr", "cfg.depth", "cfg.wd")]

    assert values == [1, 2, 3, None]
    assert rows.check_field([row], "cfg.null", "--where") == "cfg.null"
