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
        ("optim.lr=0.1", 5),
        ("optim.lr=0.2", 5),
        ("optim.lr=0.3", 5),
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
    "name", ["seed", "optim.seed", "random_seed", "data.rng_seed", "seed_offset"]
)
def test_a_seed_is_known_by_its_usual_names(name):
    assert seeds.is_seed(name)


@pytest.mark.parametrize("name", ["lr", "seedling_loss", "exceeds"])
def test_other_names_are_no_seeds(name):
    assert not seeds.is_seed(name)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=9))
def test_mean_and_spread_are_those_of_numpy(values):
    one = seeds.stat(values)

    assert one.mean == pytest.approx(np.mean(values), abs=1e-6)
    assert one.std == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    assert (one.n, one.min, one.max) == (len(values), min(values), max(values))


def test_one_value_has_no_spread_and_none_has_a_dash():
    assert seeds.stat([0.5]).text() == "0.5000 (1)"
    assert seeds.stat([]).text() == "-"
    assert seeds.stat([0.91, 0.93, 0.90]).text() == "0.9133 ± 0.0153 (3)"


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

    at = {}
    for run in logged:
        for step, value in run.items():
            if math.isfinite(value):
                at.setdefault(step, []).append(value)
    assert found.steps.tolist() == sorted(at)
    for k, step in enumerate(sorted(at)):
        values = at[step]
        assert found.n[k] == len(values)
        assert found.mean[k] == pytest.approx(np.mean(values))
        assert (found.low[k], found.high[k]) == (min(values), max(values))
        expected = np.std(values, ddof=1) if len(values) > 1 else 0.0
        assert found.std[k] == pytest.approx(expected, abs=1e-9)
