import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.core.runs import Refusal
from tools.tuning import space

numbers = st.one_of(
    st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: x + 0.0)
)
text = st.from_regex(r"[a-zA-Z][a-zA-Z_-]{0,8}", fullmatch=True).filter(
    lambda name: name.lower() not in ("true", "false", "nan", "inf", "infinity")
)
choices = st.lists(st.one_of(numbers, text), min_size=2, max_size=5, unique=True).map(
    lambda values: "|".join(map(space.as_argument, values))
)
pairs = st.tuples(numbers, numbers).filter(lambda ends: ends[0] < ends[1])
ranges = st.one_of(
    pairs.map(lambda ends: f"{ends[0]!r}..{ends[1]!r}"),
    pairs.filter(lambda ends: ends[0] > 0).map(lambda ends: f"log {ends[0]!r}..{ends[1]!r}"),
    st.tuples(st.integers(-50, 50), st.integers(1, 9), st.integers(1, 20)).map(
        lambda t: f"{t[0]}..{t[0] + t[1] * t[2]} step {t[1]}"
    ),
)
names = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True).filter(lambda n: n not in space.RESERVED)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("2|4|6", (2, 4, 6)),
        ("adamw|muon", ("adamw", "muon")),
        ("true|False", (True, False)),
        ("1..4", (1, 2, 3, 4)),
        ("64..256 step 64", (64, 128, 192, 256)),
        ("0..0.3 step 0.1", (0.0, 0.1, 0.2, 0.3)),
        ("log 1e-4..1e-2 in 3", (1e-4, 1e-3, 1e-2)),
        ("0..0.3 in 4", (0.0, 0.1, 0.2, 0.3)),
        ("log 1e-4..1e-2", None),
        ("0..0.3", None),
        ([32, 64], (32, 64)),
        ({"low": 1, "high": 3}, (1, 2, 3)),
        ({"choices": [True, "x"]}, (True, "x")),
    ],
)
def test_a_parameter_has_the_values_that_are_written(text, values):
    assert space.parameter("p", text, "p").values == values


@pytest.mark.parametrize(
    "text",
    [
        "", "3", "1..", "..2", "2..1", "1..1", "log 0..1", "log -1..1", "1|1", "1|1.0", "a|",
        "x..y", "nan..1", "0..inf", "0..1 step 2", "0..10 step 4", "1..5 step 0", "log 1..4 step 1",
        "0..1 in 1", "0..1 in x", "0..1 and more", 3, None, [1], [[1], 2], {"low": 1},
        {"low": 1, "high": 2, "max": 3}, {"low": "a", "high": 2}, {"low": 1, "high": 2, "log": 1},
        {"choices": [1, 2], "low": 0}, [float("nan"), 1.0], {"low": True, "high": 2},
    ],
)  # fmt: skip
def test_a_bad_range_is_refused_in_one_line_that_names_the_parameter(text):
    with pytest.raises(Refusal) as refusal:
        space.parameter("dropout", text, "--param dropout")

    assert str(refusal.value).startswith("--param dropout: ")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("flag", ["lr", "l r=1..2", "out_dir=1|2", "=1..2"])
def test_a_bad_name_is_refused(flag):
    with pytest.raises(Refusal, match="--param"):
        space.read(None, [flag])


def test_a_parameter_defined_twice_is_refused():
    with pytest.raises(Refusal, match="lr: must be given once"):
        space.read(None, ["lr=0..1", "lr=0..2"])


def test_flags_override_the_lines_of_the_file(tmp_path):
    file = tmp_path / "space.toml"
    file.write_text('lr = "log 1e-4..1e-2"\nn_layer = [2, 4]\n[dropout]\nlow = 0\nhigh = 0.5\n')

    found = space.read(file, ["n_layer=1..3"])

    assert found.as_text() == {
        "lr": "log 0.0001..0.01", "n_layer": "1..3", "dropout": "0..0.5",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["lr = ", "lr = 1\nlr = 2", "\xff"])
def test_a_file_that_is_not_toml_is_refused_by_name(tmp_path, text):
    file = tmp_path / "space.toml"
    file.write_bytes(text.encode("latin-1"))

    with pytest.raises(Refusal, match=r"space\.toml"):
        space.read(file)


@given(st.dictionaries(names, st.one_of(choices, ranges), min_size=1, max_size=4))
def test_any_space_survives_being_written_as_text(texts):
    found = space.read(None, [f"{name}={text}" for name, text in texts.items()])

    again = space.read(None, [f"{name}={text}" for name, text in found.as_text().items()])

    assert again == found


@given(st.text(max_size=20))
def test_any_text_is_a_range_or_is_refused(text):
    try:
        found = space.parameter("p", text, "p")
    except Refusal:
        return
    assert found.choices or found.low < found.high


def test_a_grid_has_every_combination_once():
    found = space.read(None, ["a=1..3", "b=x|y", "c=0..1 in 2"])

    points = [tuple(point.items()) for point in found.grid()]

    assert len(points) == len(set(points)) == math.prod((3, 2, 2))


def test_a_grid_over_a_continuous_range_is_refused_by_name():
    with pytest.raises(Refusal, match=r"^b: log 0\.1\.\.1"):
        space.read(None, ["a=1..3", "b=log 0.1..1"]).grid()


def test_a_grid_of_too_many_points_is_refused():
    with pytest.raises(Refusal, match="more than"):
        space.read(None, ["a=1..1000", "b=1..1000"]).grid()
