"""How cost grows with a run's length: append, fold, load, memory, as a table and a plot."""

import json
from pathlib import Path

from tests.bench import child
from tests.bench.table import FOLDER, RESULTS_MD, Plan

RESULTS_JSON = FOLDER / "growth.json"
PLOT = FOLDER / "growth.png"
BEGIN, END = "<!-- growth: begin -->\n", "<!-- growth: end -->\n"
COLUMNS = {
    "append_us": "append, µs an event",
    "fold_us": "recover, µs an event",
    "fold_on_ms": "fold 100 more, ms",
    "load_us": "load, µs an event",
    "fold_peak_mb": "recover, peak MB",
    "load_peak_mb": "load, peak MB",
}

_APPEND = """
import eventlog
n = int(arguments[1])
with eventlog.open_run(arguments[0], save_interval=0) as run:
    begun = time.perf_counter()
    for i in range(n):
        run.log_iter(i, 2.83 + i * 1e-9, 52.1, 31.2, lr=6e-4)
    seconds = time.perf_counter() - begun
report(seconds=seconds, path=str(run.journal_path))
"""
_FOLD = """
import eventlog
from eventlog.fold.compaction import write_run
from eventlog.fold.load import Folding
path = Path(arguments[0])
with eventlog.open_run(journal=path, from_iter=int(arguments[1]), save_interval=0) as on:
    begun = time.perf_counter()
    folding = Folding(path)
    run = write_run(folding)
    seconds = time.perf_counter() - begun
    for i in range(100):
        on.log_iter(int(arguments[1]) + i, 2.83, 52.1, 31.2, lr=6e-4)
    begun = time.perf_counter()
    folding.read_on(to_the_end=False)
    write_run(folding)
    more = time.perf_counter() - begun
report(seconds=seconds, more=more, rows=run.summary["total_iterations"])
"""
_LOAD = """
import eventlog
begun = time.perf_counter()
run = eventlog.load_run(Path(arguments[0]).with_suffix(".json"))
report(seconds=time.perf_counter() - begun, rows=len(run.training_iterations))
"""

Curve = dict[int, dict[str, float]]


def measure(plan: Plan, workdir: Path) -> Curve:
    """The values of COLUMNS by iterations of the run."""
    curve: Curve = {}
    for n in plan.growth:
        appended = child.run(_APPEND, workdir / str(n), n)
        folded = child.run(_FOLD, appended["path"], n)
        loaded = child.run(_LOAD, appended["path"])
        assert (folded["rows"], loaded["rows"]) == (n, n + 100)
        curve[n] = {
            "append_us": 1e6 * appended["seconds"] / n,
            "fold_us": 1e6 * folded["seconds"] / n,
            "fold_on_ms": 1e3 * folded["more"],
            "load_us": 1e6 * loaded["seconds"] / n,
            "fold_peak_mb": folded["peak_mb"],
            "load_peak_mb": loaded["peak_mb"],
        }
    return curve


def as_table(curve: Curve) -> str:
    lines = [
        "| iterations | " + " | ".join(COLUMNS.values()) + " |",
        "| --- |" + " --- |" * len(COLUMNS),
    ]
    for n, costs in curve.items():
        lines.append(f"| {n:,} | " + " | ".join(f"{costs[key]:.3g}" for key in COLUMNS) + " |")
    return "\n".join(lines)


def save(curve: Curve, stamp: str) -> None:
    """Write the JSON file, the plot, and the table in RESULTS.md."""
    RESULTS_JSON.write_text(json.dumps({"run": stamp, "curve": curve}, indent=1) + "\n")
    draw(curve, PLOT)
    text = RESULTS_MD.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    section = (
        "### As a run grows\n\n"
        "`python -m tests.bench.run --only growth`, each in its own process.\n"
        f"{stamp}\n\n{as_table(curve)}\n\n![the same as curves]({PLOT.name})\n\n"
    )
    RESULTS_MD.write_text(head + BEGIN + section + END + tail)


def draw(curve: Curve, path: Path) -> None:
    """What an event costs, what 100 more cost, and memory, over the length of the run."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    panels = figure.subplots(1, 3)
    lines = {
        "an event, µs": {"append": "append_us", "recover": "fold_us", "load": "load_us"},
        "100 iterations more, ms": {"fold and write": "fold_on_ms"},
        "peak memory, MB": {"recover": "fold_peak_mb", "load": "load_peak_mb"},
    }
    styles = {
        "append": ("#0072b2", "o"), "recover": ("#d55e00", "s"), "load": ("#009e73", "^"),
        "fold and write": ("#d55e00", "D"),
    }  # fmt: skip
    for axes, (title, keys) in zip(panels, lines.items(), strict=True):
        for name, key in keys.items():
            colour, mark = styles[name]
            costs = [curve[n][key] for n in curve]
            axes.plot(list(curve), costs, color=colour, marker=mark, label=name)
        axes.set(title=title, xlabel="iterations of the run", xscale="log", yscale="log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(True, which="major", alpha=0.3)
        axes.set_ylim(top=2 * axes.get_ylim()[1])  # space for the names above the lines
        axes.legend(frameon=False, loc="upper center", ncols=len(keys), columnspacing=1.2)
    figure.savefig(path, dpi=120)
