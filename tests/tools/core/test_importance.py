"""What is claimed of settings whose effects are known, because the test makes them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kruskal

from tools.core.importance import RUNS_MIN, importances, shares


def planted(n, seed):
    """Settings of n runs, and results that three of five settings do not change."""
    of = np.random.default_rng(seed)
    settings = {
        "layers": of.choice([2, 4, 6], n),
        "lr": 10 ** of.uniform(-4, -2, n),
        "dropout": of.choice([0.0, 0.1, 0.2], n),
        "weight_decay": of.uniform(0, 1, n),
        "activation": of.choice(["relu", "gelu"], n),
    }
    effect = np.array([{2: 0.3, 4: 0.0, 6: 0.25}[layers] for layers in settings["layers"]])
    results = effect + 0.2 * (np.log10(settings["lr"]) + 3) ** 2 + of.normal(0, 0.1, n)
    return {name: values.tolist() for name, values in settings.items()}, results.tolist()


@pytest.mark.parametrize("seed", range(8))
def test_a_setting_with_three_values_that_decides_is_first_and_those_without_effect_are_not(seed):
    found = importances(*planted(150, seed))

    assert next(iter(found)) == "layers"
    assert found["layers"].is_clear
    assert found["layers"].low > max(found[name].high for name in ("dropout", "activation"))


def test_settings_without_effect_are_called_clear_no_more_often_than_promised():
    without = ("dropout", "weight_decay", "activation")
    found = [importances(*planted(30, seed)) for seed in range(200)]

    n_clear = sum(one[name].is_clear for one in found for name in without)

    assert n_clear <= 0.05 * len(found) * len(without)


def test_an_effect_that_is_best_in_the_middle_is_seen():
    lr = np.geomspace(1e-4, 1e-1, 40)
    found = importances({"lr": lr.tolist()}, ((np.log10(lr) + 2.5) ** 2).tolist())

    assert found["lr"].is_clear
    assert found["lr"].share > 0.5


def test_the_interval_has_the_true_share_about_as_often_as_it_promises():
    many = np.random.default_rng(0)
    n_with = 0
    for _ in range(200):
        group = many.integers(0, 3, 60)
        results = group * 1.0 + many.normal(0, 1.0, 60)
        one = importances({"g": group.tolist()}, results.tolist())["g"]
        n_with += one.low <= 0.4 <= one.high  # the variance of 0, 1, 2 is 2/3, of the noise 1

    assert 0.8 <= n_with / 200 <= 0.97


def test_with_too_few_runs_nothing_is_claimed():
    settings, results = planted(RUNS_MIN - 1, 0)

    assert importances(settings, results) == {}


def test_text_with_nearly_as_many_values_as_runs_is_left_out():
    found = importances({"name": [f"run{k // 2 if k else 99}" for k in range(12)]}, [*range(12)])

    assert found == {}


@given(
    st.lists(st.sampled_from([0, 1.5, "a", None, 2**70, True]), min_size=12, max_size=40), st.data()
)
def test_any_settings_and_results_have_shares_within_their_intervals(values, data):
    result = st.sampled_from([-1e300, 0.0, 1.0, 1.0, 1e300])
    results = data.draw(st.lists(result, min_size=len(values), max_size=len(values)))

    for one in importances({"s": values, "t": values[::-1]}, results).values():
        assert 0 <= one.low <= one.high <= 1
        assert 0 <= one.share <= one.high
        assert 0 <= one.p <= 1


def test_it_is_the_effect_size_of_kruskal_and_wallis():
    settings, results = planted(60, 3)
    groups = {v: [r for s, r in zip(settings["layers"], results, strict=True) if s == v]
              for v in (2, 4, 6)}  # fmt: skip
    h = kruskal(*groups.values()).statistic

    share = importances(settings, results)["layers"].share

    assert share == pytest.approx(1 - (1 - h / 59) * 59 / 57)


def test_shares_are_those_of_the_importances():
    rng = np.random.default_rng(3)
    settings = {
        "lr": rng.choice([0.1, 0.2, 0.3], 60).tolist(),
        "depth": rng.normal(size=60).tolist(),
        "act": [None, "a", "b"] * 20,
    }
    results = np.round(np.array(settings["lr"]) + rng.normal(size=60) / 10, 1).tolist()

    found = shares(settings, results)

    assert found == {name: one.share for name, one in importances(settings, results).items()}
    assert found["lr"] > 0.1
