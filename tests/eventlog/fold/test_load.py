"""`load_run` reads journals and run JSONs, and the guide's own code works on its results.

The blocks below are the guide's, letter by letter: the files they open bear the names it uses.
"""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog
from eventlog import NewerFormat, Run, UnreadableRun, compare_runs, load_run
from eventlog.fold.load import Folding, summary_of
from tests.strategies import any_floats, json_values, line

GOLDEN = Path(__file__).parents[2] / "golden"
OLD = ["guide", "guide_crashed", "guide_mfu_object", "guide_nan"]


def make_run(folder, name, *, evals=True, mfu=True, diverges=False, iterations=40):
    """A real run of `iterations`, its run JSON under the name given."""
    with eventlog.open_run(folder, run_name=name, config={"lr": 6e-4}, save_interval=0) as run:
        for i in range(iterations):
            if evals and i % 10 == 0:
                run.log_eval(i, train_loss=9.0 - i / 10, val_loss=9.5 - i / 10, lr=6e-4)
                run.log_checkpoint(i, "out/ckpt.pt", val_loss=9.5 - i / 10)
            known = mfu and i >= 5
            loss = math.nan if diverges and i >= 35 else 11.0 - i / 10
            run.log_iter(i, loss, time_ms=50.0 + i, mfu=30.0 + i if known else -100.0)
    eventlog.compact(run.journal_path)
    return shutil.move(run.run_path, Path(folder) / f"{name}.json")


# ---- load_run


def test_a_journal_and_its_run_json_are_the_same_run(tmp_path):
    for name in ("format_1.jsonl", "format_1.json"):
        shutil.copy(GOLDEN / name, tmp_path)

    from_journal = load_run(tmp_path / "format_1.jsonl")
    from_json = load_run(str(tmp_path / "format_1.json"))
    assert from_journal == from_json
    assert from_journal.training_iterations[6] == {
        "iter": 6,
        "loss": None,
        "time_ms": 56.0,
        "mfu": 36.0,
        "lr": 0.0006,
        "grad_norm": 1.5,
        "nonfinite": {"loss": "nan"},
    }
    assert from_journal.path == tmp_path / "format_1.jsonl"
    assert from_json.path == tmp_path / "format_1.json"


def test_a_live_journal_is_read_as_it_is_now(tmp_path):
    run = eventlog.open_run(tmp_path, save_interval=0)
    run.log_iter(0, 2.5)

    live = load_run(run.journal_path)
    run.close()
    closed = load_run(run.journal_path)

    assert (live.status, live.end_time) == ("running", None)
    assert [row["loss"] for row in live.training_iterations] == [2.5]
    assert closed.status == "completed"
    assert closed.end_time == list(eventlog.scan(run.journal_path))[-1].t


def test_an_unfinished_line_of_a_live_writer_is_not_torn(tmp_path):
    run = eventlog.open_run(tmp_path, save_interval=0)
    with open(run.journal_path, "ab") as file:
        file.write(b'{"n":1,"s":"')

    live = load_run(run.journal_path)
    run.close()
    assert live.journal["defects"] == []


@pytest.mark.parametrize("name", OLD)
def test_every_run_has_a_summary_also_one_that_crashed_before_it_was_written(name):
    run = load_run(GOLDEN / f"{name}.json")
    whole = load_run(GOLDEN / "guide.json").summary

    diverged = {"final_train_loss": run.training_iterations[98]["loss"]}
    assert run.summary == pytest.approx(whole | (diverged if name == "guide_nan" else {}))
    assert list(run.summary) == list(whole)
    assert run.summary["total_iterations"] == 101
    assert run.summary["best_val_loss"] == 7.1189
    assert run.summary["avg_mfu"] == pytest.approx(32.5101, abs=1e-3)


def test_the_summary_of_a_file_is_kept(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(
        '{"training_iterations": [], "summary": {"avg_mfu": 3.5, "best_val_loss": null}}'
    )

    summary = load_run(path).summary
    assert (summary["avg_mfu"], summary["best_val_loss"]) == (3.5, None)
    assert summary["total_iterations"] == 0


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["iter", "loss", "time_ms", "mfu"]), json_values),
        max_size=5,
    ),
    st.lists(st.dictionaries(st.sampled_from(["val_loss"]), json_values | any_floats), max_size=5),
)
def test_rows_of_any_values_have_a_summary(rows, evals):
    summary = summary_of(Run(training_iterations=rows, eval_steps=evals))

    assert summary["total_iterations"] == len(rows)
    assert all(v is None or v == v for k, v in summary.items() if k != "final_iter")


# ---- errors


def test_a_missing_file_is_named(tmp_path):
    for name in ("none.jsonl", "none.json"):
        with pytest.raises(FileNotFoundError, match=name):
            load_run(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jsonl", b"", "not one whole record in its 0 bytes. See: eventlog verify"),
        ("a.jsonl", b"hello\n", "not a journal: not one whole record in its 6 bytes"),
        ("a.jsonl", b'{"text": "a data set"}\n', "not one whole record in its 23 bytes"),
        ("a.json", b'{"training_iter', "at byte 15 of 15.* eventlog compact .*a.jsonl"),
        ("a.json", b'{"rows": 1}', "valid JSON, but not a run"),
    ],
)
def test_a_file_that_is_not_a_run_is_refused_with_its_name_the_place_and_what_to_do(
    name, data, message, tmp_path
):
    path = tmp_path / name
    path.write_bytes(data)

    with pytest.raises(UnreadableRun, match=f"^{path}: .*{message}"):
        load_run(path)


def test_a_journal_of_a_newer_format_is_refused_with_what_would_read_it(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(line(0, event="open", format=2) + line(1, iter=1))

    with pytest.raises(NewerFormat, match=rf"^{path}: .*format 2, .*reads up to 1.*newer eventlog"):
        load_run(path)


# ---- reading on


def test_a_journal_read_on_piece_by_piece_is_the_journal_read_at_once(tmp_path):
    data = (GOLDEN / "format_1.jsonl").read_bytes()
    path = tmp_path / "run.jsonl"
    piecewise = Folding(path)

    for end in [*range(0, len(data), 97), len(data)]:
        path.write_bytes(data[:end])
        piecewise.read_on(to_the_end=False)
    piecewise.read_on(to_the_end=True)

    at_once = Folding(path)
    at_once.read_on(to_the_end=True)
    assert piecewise.run(alive=False) == at_once.run(alive=False)


def test_a_torn_tail_that_was_cut_while_one_read_leaves_no_trace(tmp_path):
    """The compactor saw half a line; the resumed writer cut it and wrote a longer one there."""
    one, two, three = line(0, event="open"), line(1, iter=0), line(2, iter=1, note="longer")
    path = tmp_path / "run.jsonl"
    path.write_bytes(one + two[:40])
    folding = Folding(path)
    folding.read_on(to_the_end=True)

    path.write_bytes(one + two + three)
    folding.read_on(to_the_end=False)
    run = folding.run(alive=True)
    assert run.journal["defects"] == []
    assert [row["iter"] for row in run.training_iterations] == [0, 1]


# ---- compare_runs


def test_runs_are_compared_by_the_values_of_the_guide(tmp_path):
    make_run(tmp_path, "a")

    (row,) = compare_runs([tmp_path / "a.json"])["runs"]
    assert row == {
        "run_name": row["run_name"],
        "final_loss": 7.1,
        "best_val_loss": 6.5,
        "avg_mfu": 52.0,
        "total_iters": 40,
        "avg_time_ms": 69.5,
        "status": "completed",
    }
    assert row["run_name"].startswith("a_")


def test_a_value_that_a_run_lacks_is_nan(tmp_path):
    make_run(tmp_path, "bare", evals=False, mfu=False, iterations=0)

    (row,) = compare_runs([tmp_path / "bare.json"])["runs"]
    for key in ("final_loss", "best_val_loss", "avg_mfu", "avg_time_ms"):
        assert math.isnan(row[key]), key
    assert row["total_iters"] == 0


def test_a_value_that_is_not_a_number_is_nan(tmp_path):
    path = tmp_path / "run.json"
    path.write_text('{"training_iterations": [], "summary": {"best_val_loss": "good"}}')

    assert math.isnan(compare_runs([path])["runs"][0]["best_val_loss"])


# ---- the guide's own code

VIEW = """\
import json

# Load a log file
with open('out/run_20231031_162345.json', 'r') as f:
    log = json.load(f)

# View summary
print(log['summary'])

# Plot loss curve
import matplotlib.pyplot as plt

iters = [x['iter'] for x in log['training_iterations']]
losses = [x['loss'] for x in log['training_iterations']]

plt.plot(iters, losses)
plt.xlabel('Iteration')
plt.ylabel('Loss')
plt.title('Training Loss')
plt.savefig('loss_curve.png')
"""

COMPARE = """\
from training_logger import compare_runs

# Compare multiple runs
comparison = compare_runs([
    'out/run_20231031_162345.json',
    'out/run_20231031_171523.json'
])

for run in comparison['runs']:
    print(f"{run['run_name']}: final_loss={run['final_loss']:.4f}, "
          f"best_val={run['best_val_loss']:.4f}, mfu={run['avg_mfu']:.2f}%")
"""

EXTRACT = """\
import json
import pandas as pd

# Load log
with open('out/run_20231031_162345.json', 'r') as f:
    log = json.load(f)

# Convert to DataFrame for easy analysis
df = pd.DataFrame(log['training_iterations'])

# Statistics
print(f"Mean loss: {df['loss'].mean():.4f}")
print(f"Min loss: {df['loss'].min():.4f}")
print(f"Mean time: {df['time_ms'].mean():.2f} ms")
print(f"Mean MFU: {df[df['mfu'] > 0]['mfu'].mean():.2f}%")

# Export to CSV
df.to_csv('training_metrics.csv', index=False)
"""

PLOT_PROGRESS = """\
import json
import matplotlib.pyplot as plt

with open('out/run_20231031_162345.json', 'r') as f:
    log = json.load(f)

fig, (ax1, ax2, ax3) = plt.subplots(1, 3, figsize=(15, 4))

# Loss over time
iters = [x['iter'] for x in log['training_iterations']]
losses = [x['loss'] for x in log['training_iterations']]
ax1.plot(iters, losses)
ax1.set_title('Training Loss')
ax1.set_xlabel('Iteration')
ax1.set_ylabel('Loss')

# Time per iteration
times = [x['time_ms'] for x in log['training_iterations'][5:]]  # Skip warmup
ax2.hist(times, bins=30)
ax2.set_title('Time Distribution')
ax2.set_xlabel('Time (ms)')
ax2.set_ylabel('Frequency')

# MFU over time
mfus = [x['mfu'] for x in log['training_iterations'] if x['mfu'] > 0]
ax3.plot(mfus)
ax3.set_title('Model FLOPs Utilization')
ax3.set_xlabel('Iteration')
ax3.set_ylabel('MFU (%)')

plt.tight_layout()
plt.savefig('training_analysis.png', dpi=150)
print("Saved to training_analysis.png")
"""

PLOT_VALIDATION = """\
import json
import matplotlib.pyplot as plt

with open('out/run_20231031_162345.json', 'r') as f:
    log = json.load(f)

eval_iters = [x['iter'] for x in log['eval_steps']]
train_losses = [x['train_loss'] for x in log['eval_steps']]
val_losses = [x['val_loss'] for x in log['eval_steps']]

plt.figure(figsize=(10, 6))
plt.plot(eval_iters, train_losses, label='Train Loss', marker='o')
plt.plot(eval_iters, val_losses, label='Val Loss', marker='s')
plt.xlabel('Iteration')
plt.ylabel('Loss')
plt.title('Training vs Validation Loss')
plt.legend()
plt.grid(True, alpha=0.3)
plt.savefig('train_val_comparison.png', dpi=150)
"""

SUMMARY_TABLE = """\
import json
import pandas as pd

# Load multiple logs
logs = [
    'out/run_baseline.json',
    'out/run_zero1.json',
    'out/run_fsdp.json'
]

summaries = []
for log_file in logs:
    with open(log_file, 'r') as f:
        data = json.load(f)
    
    summaries.append({
        'Run': data['run_name'],
        'Final Train Loss': data['summary']['final_train_loss'],
        'Best Val Loss': data['summary']['best_val_loss'],
        'Avg Time (ms)': data['summary']['avg_time_ms'],
        'Avg MFU (%)': data['summary']['avg_mfu'],
        'Total Iters': data['summary']['total_iterations']
    })

df = pd.DataFrame(summaries)
print(df.to_markdown(index=False))

# Save to CSV
df.to_csv('run_comparison.csv', index=False)
"""  # noqa: W293 (the guide's own blank line has its spaces)

TENSORBOARD = """\
from torch.utils.tensorboard import SummaryWriter
import json

with open('out/run_20231031_162345.json', 'r') as f:
    log = json.load(f)

writer = SummaryWriter('runs/experiment_1')

for data in log['training_iterations']:
    writer.add_scalar('Loss/train', data['loss'], data['iter'])
    if data['mfu'] > 0:
        writer.add_scalar('MFU', data['mfu'], data['iter'])

for data in log['eval_steps']:
    writer.add_scalar('Loss/val', data['val_loss'], data['iter'])

writer.close()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with an `out/` of real runs, under the names that the guide uses."""
    home = tmp_path_factory.mktemp("home")
    for name, options in {
        "run_20231031_162345": {},
        "run_20231031_171523": {"evals": False, "mfu": False, "iterations": 3},
        "run_baseline": {"diverges": True},
        "run_zero1": {"evals": False},
        "run_fsdp": {"mfu": False},
    }.items():
        make_run(home / "out", name, **options)
    return home


@pytest.fixture
def guide(home, monkeypatch, capsys):
    """Runs a block of the guide in that folder; what it printed."""
    import matplotlib as mpl

    mpl.use("Agg")
    monkeypatch.chdir(home)
    module = ModuleType("training_logger")
    module.compare_runs = compare_runs
    monkeypatch.setitem(sys.modules, "training_logger", module)

    def run(block):
        exec(compile(block, "<guide>", "exec"), {"__name__": "__main__"})
        from matplotlib import pyplot as plt

        plt.close("all")
        return capsys.readouterr().out

    return run


def test_the_guides_view_of_a_run_works(guide, home):
    output = guide(VIEW)

    assert "'final_train_loss': 7.1, 'best_val_loss': 6.5" in output
    assert (home / "loss_curve.png").stat().st_size > 5000


def test_the_guides_comparison_works_also_for_a_run_without_eval_and_mfu(guide):
    first, second = guide(COMPARE).splitlines()

    assert first.endswith(": final_loss=7.1000, best_val=6.5000, mfu=52.00%")
    assert second.endswith(": final_loss=10.8000, best_val=nan, mfu=nan%")


@pytest.mark.parametrize("name", [*(f"{old}.json" for old in OLD), "format_1.json"])
def test_the_guides_comparison_works_for_every_file_there_is(name, guide, home):
    shutil.copy(GOLDEN / name, home / "out" / name)

    output = guide(COMPARE.replace("run_20231031_171523.json", name)).splitlines()
    assert len(output) == 2
    assert "best_val=7.1189" in output[1] or name == "format_1.json"


def test_the_guides_comparison_works_for_a_journal_as_it_is(guide, home):
    shutil.copy(GOLDEN / "format_1.jsonl", home / "out" / "live.jsonl")

    output = guide(COMPARE.replace("run_20231031_171523.json", "live.jsonl")).splitlines()
    assert output[1] == "format_1: final_loss=2.0000, best_val=2.6250, mfu=35.50%"


def test_the_guides_extraction_works(guide, home):
    import pandas as pd

    assert guide(EXTRACT).splitlines() == [
        "Mean loss: 9.0500",
        "Min loss: 7.1000",
        "Mean time: 69.50 ms",
        "Mean MFU: 52.00%",
    ]
    exported = pd.read_csv(home / "training_metrics.csv")
    assert list(exported.columns) == ["iter", "loss", "time_ms", "mfu"]
    assert exported.iloc[39].to_dict() == {"iter": 39, "loss": 7.1, "time_ms": 89.0, "mfu": 69.0}


def test_the_guides_plots_work(guide, home):
    assert guide(PLOT_PROGRESS) == "Saved to training_analysis.png\n"
    assert guide(PLOT_VALIDATION) == ""

    for name in ("training_analysis.png", "train_val_comparison.png"):
        assert (home / name).read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("block", [VIEW, EXTRACT, PLOT_PROGRESS, PLOT_VALIDATION])
def test_the_guides_code_works_on_a_run_that_diverged(block, guide):
    """A loss that became NaN is null in the run JSON: it is a gap in the plot, not an error."""
    assert "Error" not in guide(block.replace("run_20231031_162345", "run_baseline"))


def test_the_guides_table_works(guide, home):
    output = guide(SUMMARY_TABLE)

    assert output.count("\n") == 5
    table = [line.split(",")[1:] for line in (home / "run_comparison.csv").read_text().split()]
    assert table[-3:] == [
        ["7.6", "6.5", "69.5", "52.0", "40"],
        ["7.1", "", "69.5", "52.0", "40"],
        ["7.1", "6.5", "69.5", "", "40"],
    ]


def test_the_guides_way_to_tensorboard_works(guide, monkeypatch):
    scalars = []

    class SummaryWriter:
        def __init__(self, folder):
            assert folder == "runs/experiment_1"

        def add_scalar(self, name, value, step):
            scalars.append((name, float(value), step))

        def close(self):
            scalars.append("closed")

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)

    guide(TENSORBOARD)
    train = [("Loss/train", 11.0 - i / 10, i) for i in range(40)]
    assert [s for s in scalars if s[0] == "Loss/train"] == train
    assert [s for s in scalars if s[0] == "MFU"] == [("MFU", 30.0 + i, i) for i in range(5, 40)]
    assert scalars[-2:] == [("Loss/val", 6.5, 30), "closed"]


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("cat out/run_20231031_162345.json | jq '.summary.final_train_loss'", "7.1"),
        ("cat out/run_20231031_162345.json | jq '.training_iterations | length'", "40"),
        ("cat out/run_20231031_162345.json | jq -c '.summary.total_checkpoints'", "4"),
    ],
)
def test_the_guides_jq_lines_work(command, output, home):
    done = subprocess.run(["bash", "-c", command], cwd=home, capture_output=True, text=True)

    assert (done.stdout.strip(), done.stderr) == (output, "")


def test_the_guides_jq_lines_print_the_document_and_its_summary(home):
    def jq(command):
        done = subprocess.run(["bash", "-c", command], cwd=home, capture_output=True, check=True)
        return json.loads(done.stdout)

    whole = json.loads((home / "out" / "run_20231031_162345.json").read_text())
    assert jq("cat out/run_20231031_162345.json | jq '.'") == whole
    assert jq("cat out/run_20231031_162345.json | jq '.summary'") == whole["summary"]


FIND_BEST = """\
for f in out/*.json; do
    loss=$(jq -r '.summary.best_val_loss' "$f")
    echo "$f: $loss"
done | sort -t: -k2 -n | head -1
"""


def test_the_guides_search_for_the_best_run_works(home, tmp_path):
    (tmp_path / "out").mkdir()
    for name in ("run_20231031_162345", "run_fsdp"):
        shutil.copy(home / "out" / f"{name}.json", tmp_path / "out")
    shutil.copy(GOLDEN / "format_1.json", tmp_path / "out")

    done = subprocess.run(["bash", "-c", FIND_BEST], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("out/format_1.json: 2.625\n", "")


# ---- summaries of files that others wrote


def foreign(path, **document):
    path.write_text(json.dumps(document))
    return load_run(path).summary


def test_a_placeholder_best_loss_is_computed_from_the_evals(tmp_path):
    """nanoGPT begins with best_val_loss = 1e9, and old loggers wrote that into the file."""
    summary = foreign(
        tmp_path / "old.json",
        training_iterations=[{"iter": 0, "loss": 3.0}],
        eval_steps=[{"iter": 0, "val_loss": 2.75}],
        summary={"best_val_loss": 1e9, "final_train_loss": 99.0, "note": "kept"},
    )

    assert summary["best_val_loss"] == 2.75
    assert summary["final_train_loss"] == 3.0
    assert summary["note"] == "kept"


def test_a_file_without_evals_has_no_best_loss_whatever_it_says(tmp_path):
    summary = foreign(
        tmp_path / "old.json", training_iterations=[{"iter": 0}], summary={"best_val_loss": 1e9}
    )

    assert summary["best_val_loss"] is None
