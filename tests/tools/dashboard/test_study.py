"""`/api/study`: the parameters, importances and ranked trials of a group of runs."""

from urllib.parse import urlencode

import pytest

import eventlog
from tests.tools.dashboard.pages import SCRIPT, serving_here, until


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Groups of runs: `lr` of twelve trials, `few` of two, `odd` with all that a setting can be."""
    out = tmp_path_factory.mktemp("studies")
    for k in range(12):
        make_trial(out, "lr", k, {"lr": 10.0 ** (k / 2 - 5), "n": k // 4, "act": "ab"[k % 2]}, k)
    for k in range(2):
        make_trial(out, "few", k, {"lr": 0.1 * k}, k)
    values = [-1e308, float("nan"), True, None, [1, 2], SCRIPT, 1 << 62, {"constructor": 1}, ""]
    for k, value in enumerate(values):
        config = {"odd": value, SCRIPT: k % 3, "large": 1e308 * (-1) ** k, "dir": f"out/{k}"}
        make_trial(out, f'"odd" {SCRIPT}', k, None, 1e308 * (-1) ** k, config | {"same": 1})
    with serving_here(out) as server:
        until(lambda: len(server.rows()) == 23)
        yield server


def make_trial(folder, group, number, params, val_loss, config=None):
    metadata = {"group": group, "trial": number} | ({"params": params} if params else {})
    with eventlog.open_run(
        folder, config=config or params, metadata=metadata, save_interval=0, durability="never"
    ) as run:
        run.log_eval(0, val_loss, val_loss)


def study(server, of, by="metadata.group", **more):
    query = urlencode({"by": by, "of": of} | more)
    return server.json(f"/api/study?{query}")


def test_a_study_has_the_importance_of_each_parameter_and_its_interval(studies):
    answer = study(studies, "lr")

    assert [(one["name"], one["is_clear"]) for one in answer["importances"]] == [
        ("lr", True), ("n", True), ("act", False),
    ]  # fmt: skip
    for one in answer["importances"]:
        assert 0 <= one["low"] <= one["share"] <= one["high"] <= 1
    assert [p["kind"] for p in answer["parameters"]] == ["log", "linear", "categorical"]
    assert [trial["trial"] for trial in answer["trials"]] == list(range(12))
    assert answer["best"] == answer["trials"][0]["id"]
    assert answer["why"].startswith("What each parameter alone explains")


def test_too_few_runs_have_no_importances_but_a_reason(studies):
    answer = study(studies, "few")

    assert answer["why"] == "Too few runs: 2 runs have completed with a result, 10 are needed."
    assert answer["importances"] == []
    assert len(answer["trials"]) == 2


def test_seeds_and_bookkeeping_have_no_importance(tmp_path):
    for k in range(12):
        config = {"seed": k, "out_dir": f"out/{k}", "eval_interval": 10 * k, "lr": k // 4}
        make_trial(tmp_path, "g", k, None, k, config)
    with serving_here(tmp_path) as server:
        until(lambda: len(server.rows()) == 12)

        answer = study(server, "g")

    assert [one["name"] for one in answer["importances"]] == ["lr"]


def test_of_many_parameters_those_that_matter_most_have_an_axis(tmp_path):
    for k in range(12):
        noise = {f"s{i:02}": (k * (i + 3)) % 4 for i in range(30)}
        make_trial(tmp_path, "g", k, None, k, noise | {"last": k // 4})
    with serving_here(tmp_path) as server:
        until(lambda: len(server.rows()) == 12)

        answer = study(server, "g")

    assert answer["importances"][0]["name"] == "last"
    assert answer["parameters"][-1]["name"] == "last"
    assert len(answer["parameters"]) == 20
    assert len(answer["not_shown"]) == 3


def test_any_group_of_runs_is_a_study_of_the_settings_in_which_they_differ(studies):
    by_setting = study(studies, "a", "config.act")
    by_number = study(studies, "1", "config.n", metric="avg_mfu")

    assert [p["name"] for p in by_setting["parameters"]] == ["lr", "n"]
    assert sorted(trial["trial"] for trial in by_setting["trials"]) == [0, 2, 4, 6, 8, 10]
    assert sorted(trial["trial"] for trial in by_number["trials"]) == [4, 5, 6, 7]
    assert by_number["metric"] == {"name": "avg_mfu", "maximize": True, "low": None, "high": None}
    assert len(study(studies, "", "")["trials"]) == 23


def test_settings_of_any_type_are_categories_and_huge_results_are_left_out(studies):
    answer = study(studies, f'"odd" {SCRIPT}')

    by_name = {p["name"]: p for p in answer["parameters"]}
    assert by_name.keys() == {"odd", SCRIPT, "large", "odd.constructor"}
    assert SCRIPT in by_name["odd"]["choices"]
    assert by_name["large"]["choices"] == ["-1e+308", "1e+308"]
    assert len(answer["trials"]) == 9
    assert {trial["value"] for trial in answer["trials"]} == {None}


def test_a_study_is_ranked_by_its_own_objective(tmp_path):
    config = {"metric": "best_accuracy", "maximize": True}
    eventlog.open_run(tmp_path, run_name="study", config=config, save_interval=0).close()
    (store,) = tmp_path.glob("*.jsonl")
    store.rename(tmp_path / "study.jsonl")
    for k in range(4):
        with eventlog.open_run(
            tmp_path / f"trial_000{k}",
            run_name=f"trial{k}",
            metadata={"group": "it", "trial": k, "params": {"lr": k}},
            save_interval=0,
        ) as run:
            for i, accuracy in enumerate((0.1 * k, 0.2 * k, float("nan"))):
                run.log("eval", iter=i, accuracy=accuracy, val_loss=k)
    with serving_here(tmp_path) as server:
        until(lambda: len(server.rows()) == 4)
        found = study(server, "it")
        by_loss = study(server, "it", metric="best_val_loss")

    assert found["metric"] == pytest.approx(
        {"name": "best_accuracy", "maximize": True, "low": 0.0, "high": 0.6}
    )
    assert [trial["trial"] for trial in found["trials"]] == [3, 2, 1, 0]
    assert [trial["trial"] for trial in by_loss["trials"]] == [0, 1, 2, 3]
    assert found["metrics"] == ["best_accuracy", *by_loss["metrics"][1:]]


def test_a_trial_has_the_state_that_runs_tune_tagged_it_with(tmp_path):
    for state, status in (("pruned", "interrupted"), ("failed", "failed"), (None, "completed")):
        run = eventlog.open_run(tmp_path, run_name=str(state), save_interval=0)
        run.close(status)
        if state:
            eventlog.annotate(run.journal_path, "tag", add=[state])
    with eventlog.open_run(tmp_path, run_name="live"), serving_here(tmp_path) as server:
        until(lambda: len(server.rows()) == 4)
        states = {trial["state"] for trial in study(server, "", "")["trials"]}

    assert states == {"pruned", "failed", "complete", "running"}
