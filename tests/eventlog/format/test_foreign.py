"""Values of other libraries: each is the number, dict or list that it stands for."""

import argparse
import collections
import dataclasses
import functools
import math
import sys
import types
from collections import ChainMap, OrderedDict, UserDict, UserList, deque
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import NamedTuple, TypedDict

import numpy as np
import pandas as pd
import pytest
import torch

from eventlog.format import foreign, record
from eventlog.format.record import decode, encode

S, T = "a1b2c3d4", "2026-11-23T03:25:01.123456+00:00"


def stored(value):
    """The fields of an event that has `value`, as they are read from its line."""
    return decode(encode(0, S, T, "note", {"value": value})[:-1]).fields


# ---- numbers


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (torch.ones(1), 1.0),
        (torch.ones(1, 1, dtype=torch.bfloat16), 1.0),
        (torch.ones(1, dtype=torch.float16, requires_grad=True), 1.0),
        (torch.nn.Parameter(torch.ones(1)), 1.0),
        (torch.tensor([2**62 + 1]), 2**62 + 1),
        (torch.tensor([2**64 - 1], dtype=torch.uint64), 2**64 - 1),
        (torch.tensor([True]), True),
        (np.array([0.5]), 0.5),
        (np.array([[0.5]]), 0.5),
        (np.float16(0.5), 0.5),
        (np.array([2**64 - 1], np.uint64), 2**64 - 1),
        (np.longdouble(0.5), 0.5),
        (np.array([0.5], np.longdouble), 0.5),
        (np.longdouble(2**53) + 1, 2**53 + 1),
        (np.longdouble("1e300"), 1e300),
        (np.ma.array([0.5]), 0.5),
        (np.ma.array([0.5], mask=[True]), None),
        (pd.Series([0.5]), 0.5),
        (Decimal("0.1"), 0.1),
        (Decimal("1e300"), 1e300),
        (Decimal(2**53 + 1), 2**53 + 1),
        (Decimal(2**64 + 1), str(2**64 + 1)),
        (Decimal("1e400"), "1E+400"),
        (Fraction(1, 4), 0.25),
        (Fraction(2**63 + 1), 2**63 + 1),
        (Fraction(10**400, 3), f"{10**400}/3"),
        (2**63 + 1, 2**63 + 1),
        (2**64 + 1, str(2**64 + 1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_number_of_any_library_is_that_number(value, number):
    kept = stored(value)["value"]

    assert (kept, type(kept)) == (number, type(number))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Decimal("NaN"), "nan"),
        (Decimal("sNaN"), "nan"),
        (Decimal("-Infinity"), "-inf"),
        (np.longdouble("inf"), "inf"),
        (np.array([math.nan]), "nan"),
        (torch.tensor([[-math.inf]]), "-inf"),
    ],
    ids=str,
)
def test_a_number_of_any_library_that_is_not_finite_is_named(value, name):
    assert stored(value) == {"value": None, "nonfinite": {"value": name}}


def test_a_time_of_numpy_is_text_whatever_its_unit():
    moment = np.datetime64("2026-01-02T03:04:05", "ns")

    assert stored(moment)["value"] == "2026-01-02T03:04:05.000000000"
    assert stored(np.array([moment, moment]))["value"] == ["2026-01-02T03:04:05.000000000"] * 2


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
def test_one_element_of_jax_is_a_number(shape, dtype):
    jax = pytest.importorskip("jax")

    value = jax.numpy.full(shape, 2, dtype)

    assert stored(value)["value"] == 2
    assert stored(jax.numpy.arange(3))["value"] == [0, 1, 2]
    assert stored(jax.numpy.bfloat16(1.5))["value"] == 1.5


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_element_of_tensorflow_is_a_number(shape):
    tensorflow = pytest.importorskip("tensorflow")

    assert stored(tensorflow.fill(shape, 0.5))["value"] == 0.5
    assert stored(tensorflow.Variable(tensorflow.fill(shape, 2)))["value"] == 2
    assert stored(tensorflow.constant([1, 2]))["value"] == [1, 2]


def test_a_tensor_that_other_ranks_would_have_to_send_is_not_read(tmp_path):
    """Only rank 0 logs: it would wait for the others for ever."""
    tensors = pytest.importorskip("torch.distributed.tensor")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        mesh = torch.distributed.init_device_mesh("cpu", (1,))
        partial = tensors.DTensor.from_local(torch.ones(()), mesh, [tensors.Partial()])
        whole = tensors.DTensor.from_local(torch.ones(()), mesh, [tensors.Replicate()])

        assert stored(partial)["value"] == "<DTensor of shape (), not gathered from all ranks>"
        assert stored(whole)["value"] == 1.0
    finally:
        torch.distributed.destroy_process_group()


# ---- nested values


@dataclasses.dataclass(slots=True)
class Optim:
    lr: float = 0.1


@dataclasses.dataclass
class WithShape:
    shape: tuple[int, ...] = (3, 4)


class Typed(TypedDict):
    lr: float


class Pair(NamedTuple):
    lr: float


NESTED = {
    "namespace": argparse.Namespace(optim=argparse.Namespace(lr=0.1)),
    "simple namespace": types.SimpleNamespace(optim=types.SimpleNamespace(lr=0.1)),
    "proxy": types.MappingProxyType({"optim": types.MappingProxyType({"lr": 0.1})}),
    "slots": {"optim": Optim()},
    "typed dict": {"optim": Typed(lr=0.1)},
    "ordered dict": OrderedDict(optim=OrderedDict(lr=0.1)),
    "default dict": collections.defaultdict(dict, optim=collections.defaultdict(int, lr=0.1)),
    "chain": ChainMap({}, {"optim": ChainMap({"lr": 0.1}, {"lr": 0.2})}),
    "user dict": UserDict(optim=UserDict(lr=0.1)),
}


@pytest.mark.parametrize("name", NESTED)
def test_a_mapping_a_namespace_or_a_dataclass_is_an_object(name):
    assert stored(NESTED[name])["value"] == {"optim": {"lr": 0.1}}


def test_a_field_of_a_config_may_be_called_shape():
    assert stored(WithShape())["value"] == {"shape": [3, 4]}


def test_sequences_and_sets_are_lists():
    assert stored(deque([1, 2]))["value"] == [1, 2]
    assert stored(UserList([1, Optim()]))["value"] == [1, {"lr": 0.1}]
    assert stored({"b", "a", "c"})["value"] == ["a", "b", "c"]
    assert stored({1: 2}.keys())["value"] == [1]


def test_a_named_tuple_is_an_object_with_its_fields():
    assert stored(Pair(0.1))["value"] == {"lr": 0.1}


def test_an_omegaconf_config_is_an_object_with_its_references_resolved():
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create(
        {
            "base": 0.1,
            "optim": {"lr": "${base}", "betas": [0.9, "${base}", "???"]},
            "data": "???",
            "lost": "${nowhere}",
            "none": None,
        }
    )

    assert stored(config)["value"] == {
        "base": 0.1,
        "optim": {"lr": 0.1, "betas": [0.9, 0.1, "???"]},
        "data": "???",
        "lost": "${nowhere}",
        "none": None,
    }
    assert stored({"inner": config.optim})["value"]["inner"]["lr"] == 0.1


def test_a_structured_omegaconf_config_is_an_object():
    omegaconf = pytest.importorskip("omegaconf")

    assert stored(omegaconf.OmegaConf.structured(Optim))["value"] == {"lr": 0.1}


@pytest.mark.parametrize("version", ["pydantic", "pydantic.v1"])
def test_a_pydantic_model_is_an_object_without_its_excluded_fields(version):
    pydantic = pytest.importorskip(version)

    class Inner(pydantic.BaseModel):
        lr: float = 0.1
        kind: Enum = Enum("Kind", {"ADAM": "adam"}).ADAM
        key: pydantic.SecretStr = pydantic.SecretStr("hunter2")
        handle: int = pydantic.Field(default=1, exclude=True)

    class Model(pydantic.BaseModel):
        optim: Inner = Inner()
        layers: list[Inner] = [Inner()]  # noqa: RUF012

    kept = stored(Model())["value"]

    assert kept["optim"] == kept["layers"][0]
    assert kept["optim"].pop("key").startswith("SecretStr('****")
    assert kept["optim"] == {"lr": 0.1, "kind": "adam"}


def test_extra_fields_root_models_and_dataclasses_of_pydantic_are_kept():
    pydantic = pytest.importorskip("pydantic")

    class Open(pydantic.BaseModel, extra="allow"):
        lr: float = 0.1

    class Root(pydantic.RootModel[dict[str, int]]):
        pass

    @pydantic.dataclasses.dataclass
    class Data:
        lr: float = 0.1

    assert stored(Open(seed=7))["value"] == {"lr": 0.1, "seed": 7}
    assert stored(Root({"a": 1}))["value"] == {"a": 1}
    assert stored(Data())["value"] == {"lr": 0.1}


def test_an_attrs_class_is_an_object():
    attrs = pytest.importorskip("attrs")

    @attrs.define
    class Inner:
        lr: float = 0.1

    @attrs.frozen
    class Model:
        optim: Inner = attrs.field(factory=Inner)
        _seed: int = 7

    assert stored(Model())["value"] == {"optim": {"lr": 0.1}, "_seed": 7}


def test_a_struct_of_msgspec_is_an_object():
    msgspec = pytest.importorskip("msgspec")

    model = msgspec.defstruct("Model", [("lr", float, 0.1)])

    assert stored(model())["value"] == {"lr": 0.1}


@pytest.mark.parametrize("kind", ["ConfigDict", "FrozenConfigDict"])
def test_a_config_dict_of_ml_collections_is_an_object(kind):
    ml_collections = pytest.importorskip("ml_collections")

    config = ml_collections.ConfigDict({"optim": {"lr": 0.1}, "layers": (1, 2)})
    config.optim.other = config.optim.get_ref("lr")

    assert stored(getattr(ml_collections, kind)(config))["value"] == {
        "optim": {"lr": 0.1, "other": 0.1},
        "layers": [1, 2],
    }


def test_flags_of_absl_are_an_object_without_absls_own():
    flags = pytest.importorskip("absl.flags")
    values = flags.FlagValues()
    flags.DEFINE_float("lr", 0.1, "", flag_values=values)
    flags.DEFINE_list("layers", ["1", "2"], "", flag_values=values)
    flags.DEFINE_integer("verbosity", 0, "", flag_values=values, module_name="absl.logging")

    assert stored(values)["value"] == {"lr": 0.1, "layers": ["1", "2"]}


def test_a_config_of_transformers_is_an_object():
    class Config:
        """As `PretrainedConfig`, whose import takes seconds."""

        def to_dict(self):
            return {"hidden_size": 8}

        @classmethod
        def from_dict(cls, values):
            return cls()

    assert stored(Config())["value"] == {"hidden_size": 8}


def test_a_data_frame_is_no_config():
    assert isinstance(stored(pd.DataFrame({"a": [1]}))["value"], str)


# ---- objects


def f():
    pass


class Plain:
    def method(self):
        pass


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (f, "<function f>"),
        (Plain(), f"<{__name__}.Plain object>"),
        (Plain().method, f"<bound method Plain.method of <{__name__}.Plain object>>"),
        (functools.partial(f, 1), "functools.partial(<function f>, 1)"),
        ({f: 1}, {"<function f>": 1}),
        (b" at 0x7f0000000000", "b' at 0x7f0000000000'"),
        (" at 0x7f0000000000", " at 0x7f0000000000"),
        (ValueError("at 0x7f0000000000"), "ValueError('at 0x7f0000000000')"),
    ],
    ids=["function", "object", "method", "partial", "key", "bytes", "text", "error"],
)
def test_the_text_of_an_object_has_no_memory_address(value, text):
    assert stored(value)["value"] == text


class EndlessMapping(UserDict):
    """Each of its values is another one."""

    def __init__(self):
        super().__init__(a=1, b=2)

    def __getitem__(self, name):
        return EndlessMapping()


def test_objects_that_make_new_ones_without_end_are_encoded_in_bounded_time(monkeypatch):
    monkeypatch.setattr(record, "_MAX_OBJECTS", 1000)
    monkeypatch.setattr(record, "MAX_LINE_BYTES", sys.maxsize)

    assert stored(EndlessMapping())["value"]["a"]


def test_a_namespace_inside_itself_is_noted():
    namespace = argparse.Namespace(lr=0.1)
    namespace.me = namespace

    assert stored(namespace)["value"] == {"lr": 0.1, "me": "<Namespace inside itself>"}


def test_a_sequence_of_too_many_items_is_not_read(monkeypatch):
    monkeypatch.setattr(foreign, "_MAX_ITEMS", 3)

    assert stored(UserList([1, 2, 3, 4]))["value"] == "<UserList: ValueError>"
    assert stored(UserDict({n: n for n in range(4)}))["value"] == "<UserDict: ValueError>"
    assert len(stored(OrderedDict({n: n for n in range(4)}))["value"]) == 4


class Answers:
    """A remote handle: it has every attribute, and each takes a call."""

    def __getattr__(self, name):
        raise AssertionError(f"{name} was asked for")

    def __repr__(self):
        return "<a handle>"


def test_an_object_that_has_every_attribute_is_not_asked_for_them():
    assert foreign.simplified(value := Answers()) is value
    assert foreign.number(value) is value
    assert stored(value)["value"] == "<a handle>"
