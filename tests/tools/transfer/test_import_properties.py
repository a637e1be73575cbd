"""Whatever a source has is in the imported run, or is named as left out with its number."""

import csv
import json
import math
import os
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import eventlog
from tools.cli import main

USUAL = """step iter loss train/loss val/loss train_loss_step mfu lr time_ms epoch timestamp
nonfinite n s t event crc durable annotates a.b"""
NAMES = st.sampled_from(USUAL.split()) | st.text(min_size=1, max_size=8)
WORDS = st.text("abcxyz äß/_-", min_size=1, max_size=9).filter(
    lambda text: text.strip().lower().lstrip("-") not in ("", "nan", "inf", "infinity")
)
NUMBERS = st.floats() | st.integers(-(2**53), 2**53)
SCALARS = NUMBERS | WORDS
STEPS = st.integers(0, 20)
QUICK = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


def nested(names, leaves):
    """Rows of scalars, and of objects in them."""
    inner = st.recursive(
        leaves, lambda values: st.dictionaries(names, values, min_size=1, max_size=3), max_leaves=4
    )
    return st.dictionaries(names, inner, max_size=5)


def flat(row, outer=()):
    for key, value in row.items():
        if isinstance(value, dict):
            yield from flat(value, (*outer, key))
        else:
            yield (*outer, key), value


def latest(rows):
    """(step, path of names) -> the last value, and how many others there are by name."""
    values, n_others = {}, Counter()
    for step, row in rows:
        for path, value in flat(row):
            known = values.get((step, path))
            if known is not None and not (type(known) is type(value) and same(known, value)):
                n_others[".".join(path)] += 1
            values[step, path] = value
    return values, n_others


def same(a, b):
    if isinstance(a, float) and isinstance(b, float | int):
        return (a == b and math.copysign(1, a) == math.copysign(1, b)) or (a != a and b != b)
    return a == b


def imported(path, folder, *flags):
    assert main(["import", str(path), "--out", f"{folder}/out", *flags]) == 0
    (done,) = Path(folder, "out").glob("*.json")
    return eventlog.load_run(done)


def check(run, rows):
    """That the run has the last value of each name at each step, all of them, and no others."""
    expected, n_others = latest(rows)
    about = run.metadata["imported"]
    tables = {"step": run.metrics, "iter": run.training_iterations, "eval": run.eval_steps}
    found = Counter()
    for axis, table in tables.items():
        for row in map(eventlog.restore_nonfinite, table):
            step = row.pop("step" if axis == "step" else "iter")
            found.update((step, name, repr_of(v)) for name, v in row.items() if v is not None)
    for (step, path), value in expected.items():
        name = ".".join(path)
        keys = [(step, field, repr_of(value)) for field in (about["renamed"].get(name, name), name)]
        key = next((key for key in keys if found[key]), None)
        assert key is not None, (keys, found)
        found[key] -= 1
    defaults = {("mfu", "-100.0"), ("timestamp", None)}
    rest = [key for key in +found if key[1:] not in defaults and key[1] != "timestamp"]
    assert rest == []
    for name, n in n_others.items():
        assert any(line.startswith(f"{n:,} values of {name!r}:") for line in about["left_out"])


def repr_of(value):
    """Numbers that are equal are the same, and NaN is itself."""
    is_number = isinstance(value, float | int) and not isinstance(value, bool)
    return repr(float(value)) if is_number else repr(value)


@QUICK
@given(st.lists(st.tuples(STEPS, st.dictionaries(NAMES, SCALARS, max_size=5)), min_size=1))
def test_every_cell_of_a_lightning_csv_is_in_the_run(rows):
    rows = [(step, {k: v for k, v in row.items() if k != "step"}) for step, row in rows]
    if not any(row for _, row in rows):
        return
    columns = ["step", *dict.fromkeys(name for _, row in rows for name in row)]
    with TemporaryDirectory() as folder:
        path = Path(folder, "metrics.csv")
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows({"step": step} | row for step, row in rows)

        run = imported(path, folder, "--from", "lightning")

        check(run, rows)


@QUICK
@given(st.lists(st.tuples(STEPS, nested(NAMES, SCALARS)), min_size=1))
def test_every_value_of_a_trainer_state_is_in_the_run(rows):
    rows = [(step, {k: v for k, v in row.items() if k != "step"}) for step, row in rows]
    if not any(row for _, row in rows):
        return
    with TemporaryDirectory() as folder:
        path = Path(folder, "trainer_state.json")
        path.write_text(json.dumps({"log_history": [row | {"step": i} for i, row in rows]}))

        run = imported(path, folder)

        check(run, rows)


@QUICK
@given(
    st.lists(st.tuples(STEPS, st.dictionaries(NAMES, st.floats() | WORDS, max_size=5)), min_size=1)
)
def test_every_scalar_and_text_of_tensorboard_is_in_the_run(rows):
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    if not any(row for _, row in rows):
        return
    expected = []
    with TemporaryDirectory() as folder:
        writer = SummaryWriter(f"{folder}/run")
        for step, row in rows:
            for name, value in row.items():
                if isinstance(value, str):
                    writer.add_text(name, value, step)
                    expected.append((step, {f"{name}/text_summary": value}))
                else:
                    writer.add_scalar(name, value, step, new_style=True, double_precision=True)
                    expected.append((step, {name: value}))
        writer.close()

        run = imported(f"{folder}/run", folder)

        check(run, expected)


@settings(QUICK, max_examples=8)
@given(
    st.lists(
        nested(
            NAMES.filter(lambda name: name != "iter" and not name.startswith("_")),  # a counter
            st.floats() | st.integers(-(2**53), 2**53) | WORDS | st.booleans(),
        ),
        min_size=1,
        max_size=6,
    ),
    st.lists(st.integers(1, 5), min_size=6, max_size=6),
)
def test_every_value_of_a_wandb_history_is_in_the_run(rows, gaps):
    wandb = pytest.importorskip("wandb", reason="pip install wandb")
    if not any(dict(flat(row)) for row in rows):
        return
    with TemporaryDirectory() as folder:
        quiet = wandb.Settings(
            console="off", disable_code=True, disable_git=True, silent=True,
            x_disable_meta=True, x_disable_stats=True, x_save_requirements=False,
        )  # fmt: skip
        run = wandb.init(project="p", mode="offline", dir=folder, settings=quiet)
        steps = [sum(gaps[:k]) for k in range(len(rows))]
        for step, row in zip(steps, rows, strict=True):
            run.log(row, step=step)
        run.summary["best"] = 0.5
        run.finish()

        done = imported(f"{folder}/wandb", folder)

        check(done, zip(steps, rows, strict=True))
        assert done.journal["summary"]["best"] == 0.5


os.environ.setdefault("WANDB_SILENT", "true")
