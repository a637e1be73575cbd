"""What programs pass to `init`, `log` and `config`: each value is in the run as it was meant."""

import argparse
import contextlib
import json
import math
import threading
import types
from collections import ChainMap, OrderedDict, UserDict, deque
from dataclasses import make_dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import eventlog
from eventlog.format.record import decode, encode
from eventlog.tracker.values import as_dict, flat
from tests.eventlog.tracker.conftest import begin
from tests.strategies import any_text

pytestmark = pytest.mark.usefixtures("clean")


def config_of(config):
    with begin(config=config) as run:
        pass
    return eventlog.load_run(run.journal_path).config


# ---- log


def test_one_element_of_a_tensor_or_an_array_is_logged_as_a_number():
    with begin() as run:
        run.log(
            {
                "a": np.array([0.5]),
                "b": torch.ones(1),
                "c": torch.ones(1, 1),
                "d": {"e": Decimal("0.1"), "f": Fraction(1, 2)},
            }
        )

    expected = {"a": 0.5, "b": 1.0, "c": 1.0, "d.e": 0.1, "d.f": 0.5}
    (row,) = eventlog.load_run(run.journal_path).metrics
    assert row == {"step": 0} | expected
    assert dict(run.summary) == expected


def test_metrics_in_a_config_object_have_dotted_names():
    metrics = argparse.Namespace(train=types.SimpleNamespace(loss=torch.tensor([2.0])))
    with begin() as run:
        run.log(metrics)

    assert list(eventlog.load_run(run.journal_path).metrics) == [{"step": 0, "train.loss": 2.0}]


def test_a_dict_inside_itself_is_logged_once():
    values = {"loss": 1.0}
    values |= {"a": values, "b": values}
    with begin() as run:
        run.log(values)

    (row,) = eventlog.load_run(run.journal_path).metrics
    assert row.keys() == {"step", "loss", "a", "b"}
    assert run.errors == 0


@pytest.mark.parametrize("kind", [int, Decimal, Fraction])
def test_integers_are_exact_in_the_journal_the_run_json_and_a_fork(kind):
    numbers = [2**53 + 1, 2**63 - 1, 2**63 + 1, 2**64 - 1, -(2**63), 2**64 + 1, -(2**63) - 1, 3**90]
    values = {f"n{i}": kind(number) for i, number in enumerate(numbers)}
    with eventlog.init(dir="out", id="first", config=values) as run:
        run.log(values)
    with begin(fork_from="first") as fork:
        pass

    for path in (run.journal_path, run.run_path, fork.journal_path):
        loaded = eventlog.load_run(path)
        (row,) = loaded.metrics
        assert [int(row[name]) for name in values] == numbers
        assert [int(loaded.config[name]) for name in values] == numbers
        is_number = [type(row[name]) is not str for name in values]
        assert is_number == [-(2**63) <= n < 2**64 for n in numbers]


# ---- config


def test_a_nested_config_is_found_by_runs_ls(capsys):
    from tools.cli import main

    config_of(argparse.Namespace(optim=argparse.Namespace(lr=0.1)))
    config_of(argparse.Namespace(optim=argparse.Namespace(lr=0.3)))

    assert main(["ls", "out", "--where", "config.optim.lr > 0.2", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["config"] == {"optim": {"lr": 0.3}}


def test_nested_values_of_the_current_config_stay_what_they_are():
    omegaconf = pytest.importorskip("omegaconf")
    run = begin(config=omegaconf.OmegaConf.create({"optim": {"lr": 0.1}}))

    assert run.config.optim.lr == 0.1


def test_infinity_and_nan_in_a_config_are_text_and_are_there_after_a_resume():
    config = {"clip": math.inf, "deep": {"er": [1, -math.inf, None]}, "none": None}
    expected = {"clip": "inf", "deep": {"er": [1, "-inf", None]}, "none": None}
    with eventlog.init(dir="out", name="a", config=config) as run:
        run.config.update({"late": math.nan})
    with begin(name="a", resume="must") as resumed:
        assert dict(resumed.config) == expected | {"late": "nan"}

    for path in (run.journal_path, run.run_path, resumed.journal_path):
        assert eventlog.load_run(path).config == expected | {"late": "nan"}
    document = json.loads(run.run_path.read_bytes())
    assert document["config"] == expected | {"late": "nan"}


def test_infinity_in_a_config_too_large_for_a_line_is_there_after_a_resume():
    with begin(name="a", config={"clip": math.inf, "text": "x" * 3_000_000}):
        pass
    with begin(name="a", resume="must") as run:
        assert run.config.clip == "inf"
        assert len(run.config.text) == 3_000_000


class Defaults:
    lr = 0.1
    depth = 2
    _private = 3

    def build(self):
        pass

    @property
    def width(self):
        raise AssertionError("a property was called")


def test_a_class_or_its_instance_is_a_config_with_the_defaults():
    config = Defaults()
    config.lr = 0.3

    assert config_of(Defaults) == {"lr": 0.1, "depth": 2}
    assert config_of(config) == {"lr": 0.3, "depth": 2}


def test_a_module_is_a_config_without_its_code():
    module = types.ModuleType("settings")
    exec("import os\nlr = .1\ndef f(): pass\nclass C: pass\n_x = 1", module.__dict__)

    assert config_of(module) == {"lr": 0.1}


def test_equal_runs_with_functions_and_objects_have_equal_configs():
    def config():
        return {"act": lambda: 1, "object": object(), "hook": types.SimpleNamespace(f=lambda: 2)}

    assert config_of(config()) == config_of(config())


def test_a_config_of_lightning_and_update_take_the_same_objects():
    with begin() as run:
        run.config.update(argparse.Namespace(a=argparse.Namespace(b=1)))
        run.config.setdefaults(types.MappingProxyType({"c": types.SimpleNamespace(d=2)}))

    assert eventlog.load_run(run.journal_path).config == {"a": {"b": 1}, "c": {"d": 2}}


# ---- files


@pytest.mark.parametrize("kind", [str, Path])
def test_the_path_of_a_json_file_stands_for_its_content(kind):
    Path("c.json").write_text(
        '{"optim": {"lr": 0.1}, "big": 36893488147419103233, "inf": Infinity}'
    )

    assert config_of(kind("c.json")) == {
        "optim": {"lr": 0.1},
        "big": "36893488147419103233",
        "inf": "inf",
    }


def test_the_path_of_a_yaml_file_stands_for_its_content():
    pytest.importorskip("yaml")
    Path("c.yaml").write_text("optim:\n  lr: 1e-3\n  eps: 1.0e-8\nname: a1e5\nlayers: [1, 2]\n")

    assert config_of("c.yaml") == {
        "optim": {"lr": 0.001, "eps": 1e-8},
        "name": "a1e5",
        "layers": [1, 2],
    }


def test_a_yaml_file_of_wandb_has_its_values_without_the_descriptions():
    pytest.importorskip("yaml")
    Path("c.yml").write_text("wandb_version: 1\nlr:\n  desc: null\n  value: 0.1\n")

    assert config_of("c.yml") == {"lr": 0.1}


@pytest.mark.parametrize("content", [None, "{", "\x00", "x" * 100])
def test_a_config_file_that_cannot_be_read_is_kept_as_its_path_and_reported(content, capsys):
    if content is not None:
        Path("c.json").write_text(content)

    assert config_of("c.json") == {"config": "c.json"}
    assert "config: c.json: cannot be read" in capsys.readouterr().err


def test_without_pyyaml_a_message_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    Path("c.yaml").write_text("lr: 0.1\n")

    assert config_of("c.yaml") == {"config": "c.yaml"}
    assert "pip install pyyaml" in capsys.readouterr().err


# ---- values that do what they like


class Logs(UserDict):
    """Logs whenever it is read."""

    run = None

    def __getitem__(self, name):
        self.run.log({"inner": 1}, step=0)
        return super().__getitem__(name)


def test_a_value_that_logs_while_it_is_read_costs_nothing():
    with begin() as run:
        Logs.run = run
        run.log({"outer": Logs(a=1)}, step=0)
        run.config.update(Logs(b=2))

    loaded = eventlog.load_run(run.journal_path)
    assert list(loaded.metrics) == [{"step": 0, "inner": 1, "outer.a": 1}]
    assert loaded.config == {"b": 2}
    assert run.errors == 0


class AsksAnotherThread:
    """Lets another thread log and waits for it when its class, text or truth is asked for."""

    def __init__(self, run):
        self._run = run

    def _ask(self):
        thread = threading.Thread(target=self._run.log, args=({"other": 1},), daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive(), "a lock was held"

    def __bool__(self):
        self._ask()
        return True

    def __repr__(self):
        self._ask()
        return "text"

    @property
    def __class__(self):
        self._ask()
        return AsksAnotherThread


def test_no_lock_is_held_while_code_of_a_value_runs():
    with begin() as run:
        value = AsksAnotherThread(run)
        run.log({"a": value}, commit=value)

    rows = eventlog.load_run(run.journal_path).metrics
    assert [row["a"] for row in rows if "a" in row] == ["text"]
    assert run.errors == 0


# ---- any nesting


Fields = make_dataclass("Fields", ["x", "y"], slots=True)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    any_text,
).map(lambda value: (value, value))
wrapped_numbers = st.floats(-(2.0**52), 2.0**52, width=32).flatmap(
    lambda x: st.sampled_from(
        [
            (np.float32(x), x),
            (np.array([x], np.float32), x),
            (np.array([[x]]), x),
            (torch.tensor(x), x),
            (torch.tensor([[x]]), x),
            (Decimal(x), x),
            (Fraction(x), x),
            (np.longdouble(x), x),
        ]
    )
)
WRAPPERS = [
    dict,
    OrderedDict,
    UserDict,
    ChainMap,
    types.MappingProxyType,
    lambda fields: types.SimpleNamespace(**fields),
    lambda fields: argparse.Namespace(**fields),
    lambda fields: Fields(**fields),
]
for module, wrap in (
    ("attrs", lambda m: m.make_class("Attrs", ["x", "y"])),
    ("pydantic", lambda m: m.create_model("Model", x=(object, None), y=(object, None))),
    ("msgspec", lambda m: m.defstruct("Struct", ["x", "y"])),
):
    with contextlib.suppress(ImportError):
        made = wrap(__import__(module))
        WRAPPERS.append(lambda fields, made=made: made(**fields))


def nested(inner):
    fields = st.fixed_dictionaries({"x": inner, "y": inner})
    objects = st.tuples(st.sampled_from(WRAPPERS), fields).map(
        lambda pair: (
            pair[0]({name: value for name, (value, _) in pair[1].items()}),
            {name: plain for name, (_, plain) in pair[1].items()},
        )
    )
    lists = st.tuples(st.sampled_from([list, tuple, deque]), st.lists(inner, max_size=3)).map(
        lambda pair: (pair[0](v for v, _ in pair[1]), [plain for _, plain in pair[1]])
    )
    return objects | lists


objects = st.recursive(leaves | wrapped_numbers, nested, max_leaves=12)


@given(objects)
def test_any_nesting_of_supported_types_is_the_nested_plain_values(pair):
    value, plain = pair
    line = encode(0, "a1b2c3d4", "t", "config", {"config": as_dict({"value": value})})

    assert decode(line[:-1]).fields == {"config": {"value": plain}}


def dotted(values, prefix=""):
    """`values` as `log` names them."""
    names = {}
    for name, value in values.items():
        is_nested = isinstance(value, dict) and value
        names |= dotted(value, f"{prefix}{name}.") if is_nested else {f"{prefix}{name}": value}
    return names


@given(objects)
def test_any_nesting_of_supported_types_is_logged_under_dotted_names(pair):
    value, plain = pair
    line = encode(0, "a1b2c3d4", "t", "metrics", flat({"value": value}))

    assert decode(line[:-1]).fields == dotted({"value": plain})
