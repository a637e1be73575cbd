"""The guard and any series: metrics' NaN, spikes and stalls, and the rules of the user."""

from datetime import UTC, datetime

import pytest

import eventlog
from tools.cli import main
from tools.monitor.rules import Limits
from tools.monitor.series_rules import SeriesRule
from tools.monitor.vitals import Vitals

BEGIN = 1_795_000_000.0


def record(n, event, second=None, **fields):
    at = BEGIN + (n if second is None else second)
    t = datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")
    return eventlog.Record(n, "a0000000", t, event, fields)


def vitals_of(rows, *rules):
    """The vitals of a run that logs these rows, one a second, and all findings."""
    vitals = Vitals(Limits(), [SeriesRule.parse(rule) for rule in rules])
    found = vitals.add(record(0, "open"))
    for n, row in enumerate(rows, 1):
        marks = {k: str(v) for k, v in row.items() if isinstance(v, float) and v - v != 0}
        row = {k: None if k in marks else v for k, v in row.items()}
        fields = {"step": n} | row | ({"nonfinite": marks} if marks else {})
        found += vitals.add(record(n, "metrics", **fields))
    return vitals, [(finding.rule, finding.text) for finding in found]


def test_a_metric_that_becomes_nan_is_reported_once():
    rows = [{"reward": 1.0, "val/acc": 0.5}] * 30 + [{"reward": float("nan")}] * 5

    _, found = vitals_of(rows)

    assert found == [("nonfinite", "reward nan at step 31")]


def test_a_metric_that_never_had_a_number_is_not_reported_unless_it_is_a_loss():
    rows = [{"best so far": float("inf"), "train/loss": float("nan")}]

    _, found = vitals_of(rows)

    assert found == [("nonfinite", "train/loss nan at step 1")]


def test_a_spike_of_the_usual_loss_is_reported():
    rows = [{"train/loss": 2.0 + k % 3 / 100, "lr": 1e-3} for k in range(64)]

    _, found = vitals_of([*rows, {"train/loss": 50.0}])

    assert [(rule, text.partition(",")[0]) for rule, text in found] == [
        ("spike", "train/loss 50 at step 65")
    ]


def test_a_run_of_metrics_stalls_by_its_own_rhythm():
    vitals, _ = vitals_of([{"loss": 1.0}] * 30)

    assert vitals.standing(BEGIN + 30 + 59, is_alive=True) == {}
    assert "stall" in vitals.standing(BEGIN + 30 + 61, is_alive=True)


def test_names_that_are_logged_one_by_one_once_an_epoch_are_no_rhythm_of_milliseconds():
    vitals = Vitals(Limits())
    vitals.add(record(0, "open"))
    for epoch in range(6):
        for k in range(20):
            at = 300 * epoch + k / 1000
            vitals.add(record(20 * epoch + k + 1, "metrics", at, step=epoch, **{f"m{k}": 1.0}))
            assert vitals.standing(BEGIN + 300 * epoch + 299, is_alive=True) == {}


def test_a_process_that_is_known_to_have_ended_is_a_crash_at_once():
    vitals, _ = vitals_of([{"loss": 1.0}] * 30)
    now = BEGIN + 30

    gone = vitals.standing(now, is_alive=False, was_alive=False, is_gone=True)
    unknown = vitals.standing(now, is_alive=False, was_alive=False)

    assert (list(gone), list(unknown)) == (["crash"], [])


@pytest.mark.parametrize(
    ("rule", "values", "texts"),
    [
        ("val/* > 5", [1, 6, 7, 2, 9], ["at step 2, > 5", "at step 5, > 5"]),
        ("val/loss <= 0", [1, 0], ["val/loss 0 at step 2, <= 0"]),
        ("val/loss nan", [1, float("inf"), float("nan"), 1], ["val/loss inf at step 2"]),
        ("val/loss no improvement 3", [5, 4, 6, 6, 6, 6], ["in 3 steps, the best is 4 at step 2"]),
        ("other > 0", [1, 2, 3], []),
    ],
)
def test_a_rule_is_for_the_series_that_it_names_and_reports_once(rule, values, texts):
    _, found = vitals_of([{"val/loss": value} for value in values], rule)

    found = [text for name, text in found if texts == [] or name != "nonfinite" or "nan" in rule]
    assert len(found) == len(texts)
    assert all(part in text for part, text in zip(texts, found, strict=True))


def test_where_more_is_better_a_higher_value_is_the_improvement():
    _, found = vitals_of([{"val/acc": k / 10} for k in range(9)], "val/acc no improvement 3")

    assert found == []


def test_a_series_that_is_silent_while_others_come_is_a_stall():
    vitals, _ = vitals_of([{"val/acc": 0.5}] + [{"loss": 1.0}] * 700, "val/acc stall 10m")

    (finding,) = vitals.standing(BEGIN + 701, is_alive=True).values()
    assert (finding.rule, finding.text.partition(":")[0]) == ("stall", "val/acc")


def test_a_run_whose_fit_has_ended_neither_stalls_nor_crashes_until_it_goes_on():
    vitals, _ = vitals_of([{"loss": 1.0}] * 30)
    vitals.add(record(31, "idle", why="fit ended"))
    later = BEGIN + 10_000

    assert vitals.standing(later, is_alive=True) == {}
    assert vitals.standing(later, is_alive=False, is_gone=True) == {}
    vitals.add(record(32, "metrics", step=30, **{"test/acc": 0.5}))
    assert vitals.standing(later, is_alive=True) == {}
    vitals.add(record(33, "metrics", step=31, loss=1.0))
    assert "stall" in vitals.standing(later, is_alive=True)


@pytest.mark.parametrize("rule", ["loss", "> 5", "loss > many", "loss stall", "loss stall 1x"])
def test_what_is_no_rule_is_refused_with_the_forms_of_one(rule, tmp_path, capsys):
    assert main(["guard", "--once", "--rule", rule, str(tmp_path)]) == 2

    assert "--rule: unknown rule" in capsys.readouterr().err
