"""The benchmark runs, and checks what it measures; times are not tested."""

import pytest

from tests.bench import growth, run, table
from tests.bench.table import QUICK, Row

# The peers are not installed, and preparing has a test of its own.
QUICK_ROWS = [name for name in run.ROWS if name not in ("call beside peers", "prepare")]


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n == "logging" else n for n in QUICK_ROWS],
)
def test_a_row_is_measured_and_its_result_checked(name, tmp_path):
    row = run.ROWS[name](QUICK, tmp_path)

    assert isinstance(row, Row)
    assert row.measured


def test_the_curve_of_growth_has_a_table_and_a_plot(tmp_path):
    curve = growth.measure(QUICK, tmp_path)

    growth.draw(curve, tmp_path / "growth.png")

    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
    assert growth.as_table(curve).count("\n") == 1 + len(QUICK.growth)


def test_a_row_that_is_measured_again_replaces_the_old_one(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "RESULTS_JSON", tmp_path / "speed.json")
    monkeypatch.setattr(table, "RESULTS_MD", tmp_path / "RESULTS.md")
    table.RESULTS_MD.write_text(f"before\n{table.BEGIN}old\n{table.END}after\n")
    slow, fast = (Row("a call", "a write", "2x", f"{n}x", n <= 2) for n in (9, 1))

    table.save({"call": slow, "other": slow}, "monday")
    table.save({"call": fast}, "tuesday")

    text = table.RESULTS_MD.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| call | a call | a write | 2x | 1x | reached |" in text
    assert "| other | a call | a write | 2x | 9x | missed |" in text
    assert (
        "- monday: other\n- tuesday: call\n" in text or "- tuesday: call\n- monday: other" in text
    )
    assert "old" not in text


def test_a_row_that_does_not_exist_is_named(capsys):
    assert run.main(["--only", "nothing"]) == 2

    assert "no such row: nothing; there are call, " in capsys.readouterr().err
