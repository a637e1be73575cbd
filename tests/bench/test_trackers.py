"""The harness for the trackers with the smallest plan: it finds a loss where there is one."""

import pytest

from tests.bench.trackers import missing_packages, report, trackers
from tests.bench.trackers.__main__ import run
from tests.bench.trackers.child import values_of
from tests.bench.trackers.harness import TESTS, TINY, Answer, Bench, Tally, every, places_of, whole

FIRST_VARIANTS = {tracker.PACKAGES: name for name, tracker in reversed(trackers().items())}
INSTALLED = [name for name in FIRST_VARIANTS.values() if not missing_packages(trackers()[name])]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Both trackers that need nothing installed, in every test of one tracker."""
    workdir = tmp_path_factory.mktemp("trackers")
    return run(["eventlog", "json-every-100"], TESTS, TINY, workdir, seed=1, jobs=2)


def test_no_test_failed_to_run(results):
    assert {name: [*summary] for name, summary in results.items()} == {
        name: ["who", *TESTS] for name in ("eventlog", "json-every-100")
    }
    assert [
        f["failed"] for by_test in results.values() for f in by_test.values() if "failed" in f
    ] == []


def test_eventlog_loses_only_the_event_whose_bytes_were_touched(results):
    summary = results["eventlog"]

    (kills,) = summary["kill"]["by_rate"]
    for untouched in (
        kills,
        summary["cut"],
        summary["end"]["sigterm"],
        summary["end"]["exception"],
    ):
        assert untouched["events"] > 0
        assert untouched["lost"] == 0
    for touched in (summary["damage"], summary["torn"]):
        assert touched["lost_worst"] <= 1
    for every_test in (kills, *(summary[test] for test in ("torn", "damage", "cut"))):
        assert (every_test["refused"], every_test["wrong_trials"]) == (0, 0)


def test_the_harness_finds_the_losses_of_a_logger_that_writes_every_100_steps(results):
    summary = results["json-every-100"]

    (kills,) = summary["kill"]["by_rate"]
    assert kills["lost"] > 0
    assert summary["end"]["exception"]["lost"] == summary["end"]["exception"]["events"] % 100 > 0
    assert summary["damage"]["refused"] > 0
    assert summary["cut"]["lost"] > 0
    assert summary["torn"]["resume_refused"] == summary["torn"]["trials"]


def test_the_same_seed_damages_the_same_bytes(tmp_path):
    first, second = (Bench("json-every-100", tmp_path / str(i), TINY, seed=5) for i in range(2))

    assert first.damage() == second.damage()
    first.close()
    second.close()


@pytest.mark.parametrize("name", INSTALLED)
def test_each_installed_tracker_returns_every_value_of_a_clean_run(name, tmp_path):
    bench = Bench(name, tmp_path / "work", TINY, seed=1)
    with bench.clean_run(120):  # raises where a value is missing or wrong
        pass
    bench.close()


def test_values_are_judged_and_not_counted():
    """One of the returned values is altered: it is lost, and wrong if there was no error."""
    values = [(step, name, v) for step in range(3) for name, v in values_of(step).items()]
    values[5] = (1, "time_ms", 4.0)
    silent, loud = Tally(), Tally()
    silent.add(Answer(values), every(range(3)))
    loud.add(Answer(values, "a line is malformed"), every(range(3)))

    assert (silent.summary()["lost"], silent.wrong, silent.refused) == (0.25, 1, 0)
    assert (loud.summary()["lost"], loud.wrong, loud.refused) == (0.25, 0, 1)


def test_no_number_is_logged_twice():
    numbers = [value for step in range(5000) for value in values_of(step).values()]

    assert len(set(numbers)) == len(numbers)


def test_an_event_is_complete_if_a_later_one_follows_it():
    lines = [repr([*values_of(step).values()]).encode() + b"\n" for step in range(3)]
    places = places_of(b"".join(lines), 3)

    assert whole(places, len(lines[0])) == set()
    assert whole(places, len(lines[0]) + 3) == every([0])
    assert whole(places, sum(map(len, lines))) == every([0, 1])


def test_a_new_table_replaces_the_old_one_and_nothing_else(tmp_path, results):
    page = tmp_path / "RESULTS.md"
    page.write_text("# Results\n\nabove\n")
    report.save(results, tmp_path / "results.json", page)
    page.write_text(page.read_text() + "\nbelow\n")
    once = page.read_text()
    report.save(report.load(tmp_path / "results.json"), tmp_path / "results.json", page)

    assert page.read_text() == once
    assert once.startswith("# Results\n\nabove\n\n<!-- trackers: begin -->")
    assert once.endswith("<!-- trackers: end -->\n\nbelow\n")
    assert "| json-every-100 |" in once
