"""Runs that differ in the seed alone are one group, with the mean and spread that numpy finds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.core import seeds
from tools.core.rows import FIELDS


def row(name="r", **more):
    config = more.pop("config", {})
    return dict.fromkeys(FIELDS) | {"run": name, "config": config, "metadata": {}} | more


def runs_of(settings, n_seeds=5):
    return [
        row(f"{lr}.{seed}", config={"optim": {"lr": lr}, "seed": seed, "out_dir": f"out/{seed}"})
        for lr in settings
        for seed in range(n_seeds)
    ]


def test_runs_that_differ_in_the_seed_and_their_folder_alone_are_one_group():
    found = seeds.groups(runs_of([0.1, 0.2, 0.3]))

    assert [(group.name, len(group.rows)) for group in found] == [
        ("lr=0.1", 5),
        ("lr=0.2", 5),
        ("lr=0.3", 5),
    ]


def test_a_group_is_what_was_asked_for_whatever_else_differs():
    rows = [row(config={"lr": lr, "depth": depth}) for lr in (1, 2) for depth in (3, 4)]

    assert [g.settings for g in seeds.groups(rows, by=["config.lr"])] == [
        {"config.lr": 1},
        {"config.lr": 2},
    ]


def test_runs_without_any_difference_are_one_group():
    assert [g.name for g in seeds.groups([row(), row()])] == ["all"]


@pytest.mark.parametrize(
    "name",
    [
        "seed",
        "train.seed",
        "random_seed",
        "data.rng_seed",
        "seed_offset",
        "torch_seed",
        "seed.numpy",
        "random_state",
        "manualSeed",
        "data_seed",
    ],
)
def test_a_seed_is_known_by_its_usual_names(name):
    assert seeds.is_seed(name)


@pytest.mark.parametrize(
    "name", ["lr", "seedling_loss", "exceeds", "seed_steps", "num_seeds", "speed"]
)
def test_other_names_are_no_seeds(name):
    assert not seeds.is_seed(name)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=9))
def test_mean_and_spread_are_those_of_numpy(values):
    one = seeds.stat(values)

    assert one.mean == pytest.approx(np.mean(values), abs=1e-6)
    assert one.std == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    assert (one.n, one.min, one.max) == (len(values), min(values), max(values))


def test_one_value_has_no_spread_and_none_has_a_dash():
    assert seeds.stat([0.5]).text() == "0.5000"
    assert seeds.stat([]).text() == "-"
    assert seeds.stat([0.91, 0.93, 0.90]).text() == "0.9133 ± 0.0153"
    assert seeds.stat([20, 20]).text() == "20 ± 0"


def test_runs_without_a_number_are_said_beside_the_mean():
    one = seeds.stat([0.91, 0.93, 0.90, math.nan, None])

    assert one.text() == "0.9133 ± 0.0153 (3 of 5, 1 not finite)"


NANOGPT = {
    "out_dir": "out/{s}", "eval_interval": 250, "wandb_log": True, "wandb_project": "owt",
    "wandb_run_name": "gpt2-{s}", "dataset": "owt", "n_layer": 12, "learning_rate": 6e-4,
    "init_from": "scratch", "device": "cuda:{s}",
}  # fmt: skip
HUGGING_FACE = {
    "output_dir": "out/seed{s}", "logging_dir": "out/runs/Nov30_05-3{s}-01_node{s}",
    "run_name": "bert-{s}", "data_seed": None, "learning_rate": 5e-5, "local_rank": 0,
    "hub_model_id": "me/bert-{s}", "model": {"name": "bert"}, "seed": 42,
}  # fmt: skip
HYDRA = {
    "hydra": {"run": {"dir": "outputs/{s}"}, "overrides": {"task": ["seed={s}"]}},
    "train": {"seed": 1, "lr": 0.1}, "paths": {"output_dir": "outputs/{s}"},
    "logger": {"name": "run{s}"}, "optimizer": {"name": "adam"}, "trainer": {"max_epochs": 3},
}  # fmt: skip


def filled(config, seed):
    """The config with the seed in each of its texts."""
    if isinstance(config, dict):
        return {key: filled(v, seed) for key, v in config.items()}
    if isinstance(config, list):
        return [filled(v, seed) for v in config]
    return config.replace("{s}", str(seed)) if isinstance(config, str) else config


@pytest.mark.parametrize(
    ("config", "changed"),
    [
        (NANOGPT, {"learning_rate": 1e-3}),
        (NANOGPT, {"init_from": "gpt2"}),
        (HUGGING_FACE, {"model": {"name": "roberta"}}),
        (HYDRA, {"optimizer": {"name": "sgd"}}),
    ],
)
def test_real_configs_are_grouped_by_what_is_trained(config, changed):
    rows = [row(config=filled(config, s) | {"seed": s}) for s in range(3)]
    other = row(config=filled(config, 7) | {"seed": 7} | changed)

    assert [len(group.rows) for group in seeds.groups([*rows, other])] == [3, 1]


def test_equal_numbers_are_equal_settings_and_long_names_are_short():
    rows = [
        row(config={"a": {"lr": 1}, "b": {"wd": 0}}),
        row(config={"a": {"lr": 1.0}, "b": {"wd": 1}}),
    ]

    assert [group.name for group in seeds.groups(rows)] == ["wd=0", "wd=1"]


def test_settings_that_differ_within_a_group_are_said():
    rows = [row(config={"lr": lr, "depth": d, "seed": 1}) for lr in (1, 2) for d in (3, 4)]

    notes = seeds.notes_on(seeds.groups(rows, ["config.lr"]), ["config.lr"])

    assert notes == ["lr=1: its runs also differ in depth", "lr=2: its runs also differ in depth"]


def test_the_p_value_is_that_of_welch():
    """By the formula of the test: t and its degrees of freedom, and Student's distribution."""
    stats = pytest.importorskip("scipy.stats")
    a, b = [27.5, 21.0, 19.0, 23.6, 17.0], [27.1, 22.0, 20.8, 23.4, 23.4, 30.1]
    va, vb = np.var(a, ddof=1) / len(a), np.var(b, ddof=1) / len(b)
    t = (np.mean(a) - np.mean(b)) / math.sqrt(va + vb)
    freedom = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))

    assert seeds.p_value(a, b) == pytest.approx(2 * stats.t.sf(abs(t), freedom))


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0, 2.0]), ([1.0, 1.0], [2.0, 2.0]), ([], [])])
def test_there_is_no_p_value_without_spread(a, b):
    assert seeds.p_value(a, b) is None


curves = st.lists(
    st.dictionaries(
        st.integers(0, 9), st.floats(-100, 100) | st.sampled_from([math.nan, math.inf]), min_size=1
    ),
    max_size=5,
)


@given(curves)
def test_a_band_has_at_each_step_what_the_runs_have_there(logged):
    found = seeds.band([(sorted(run), [run[s] for s in sorted(run)]) for run in logged])

    finite = {step for run in logged for step, v in run.items() if math.isfinite(v)}
    assert found.steps.tolist() == sorted(finite)
    for k, step in enumerate(found.steps.tolist()):
        values = [v for run in logged if (v := at_step(run, step)) is not None]
        assert found.n[k] == len(values)
        assert found.mean[k] == pytest.approx(np.mean(values), abs=1e-9)
        assert found.low[k] == pytest.approx(min(values), abs=1e-9)
        assert found.high[k] == pytest.approx(max(values), abs=1e-9)
        if len(values) > 1:
            assert found.std[k] == pytest.approx(np.std(values, ddof=1), abs=1e-9)
        else:
            assert math.isnan(found.std[k])


def at_step(run, step):
    """The value of a run, or that of the line between its neighbours; None: there is none."""
    if step in run:
        return run[step] if math.isfinite(run[step]) else None
    before = max((s for s in run if s < step), default=None)
    after = min((s for s in run if s > step), default=None)
    if before is None or after is None:
        return None
    a, b = run[before], run[after]
    if not (math.isfinite(a) and math.isfinite(b)):
        return None
    return a + (b - a) * (step - before) / (after - before)
