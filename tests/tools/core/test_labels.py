"""A legend names runs by the settings in which they differ."""

import pytest

from tests.tools.core.test_seeds import row
from tools.core.labels import labels


def rows(*configs, name="run_20261201_0102"):
    return [row(f"{name}{k:02}", config=config) for k, config in enumerate(configs)]


@pytest.mark.parametrize(
    ("configs", "expected"),
    [
        (({"lr": 0.1, "depth": 4}, {"lr": 0.2, "depth": 4}), ["lr=0.1", "lr=0.2"]),
        (({"optim": {"lr": 0.1}}, {"optim": {"lr": 0.2}}), ["lr=0.1", "lr=0.2"]),
        (({"lr": 1, "seed": 1}, {"lr": 2, "seed": 2}), ["lr=1", "lr=2"]),
        (({"lr": 1, "seed": 1}, {"lr": 1, "seed": 2}), ["seed=1", "seed=2"]),
        (({"lr": 1, "out_dir": "a"}, {"lr": 2, "out_dir": "b"}), ["lr=1", "lr=2"]),
        (({"lr": 1}, {"lr": 1, "dropout": 0.1}), ["run_20261201_010200", "dropout=0.1"]),
        (({"lr": 0.00018566433}, {"lr": 0.003}), ["lr=0.0001857", "lr=0.003"]),
        (({"lr": 0.00018566433}, {"lr": 0.00018566434}), ["lr=0.00018566433", "lr=0.00018566434"]),
    ],
)
def test_runs_of_one_name_are_named_by_what_differs(configs, expected):
    assert labels(rows(*configs)) == expected


def test_settings_that_are_equal_leave_the_names_of_the_runs():
    assert labels(rows({"lr": 1}, {"lr": 1})) == ["run_20261201_010200", "run_20261201_010201"]


def test_names_that_were_chosen_come_first_without_their_time():
    named = [
        row("base_20261201_010203", config={"lr": 1}),
        row("big_20261201_010204", config={"lr": 2}),
    ]

    assert labels(named) == ["base, lr=1", "big, lr=2"]


def test_a_run_of_a_sweep_that_was_renamed_has_its_name():
    named = [*rows({"lr": 1}, {"lr": 2}), row("the good one", config={"lr": 3})]

    assert labels(named) == ["lr=1", "lr=2", "the good one, lr=3"]


def test_of_many_settings_those_that_keep_the_runs_apart_are_named():
    configs = [{f"s{n}": k // 2**n % 2 for n in range(5)} | {"lr": k} for k in range(8)]

    assert labels(rows(*configs)) == [f"lr={k}" for k in range(8)]


def test_equal_names_get_their_folder_or_a_number():
    same = [row("a", path="x/a.json"), row("a", path="y/a.json"), row("a", path=""), row("a")]

    assert labels(same) == ["a (x)", "a (y)", "a #1", "a #2"]
