"""`runs prune` deletes no run that is live, to be kept, or different from the archive."""

import contextlib
import itertools
import os
import re
import shutil
import time

import orjson
import pytest

import eventlog
from eventlog.cli.main import main as verify
from tests import corrupt
from tests.tools.conftest import make_run
from tools.archive import prune
from tools.archive.archive import archive, restore
from tools.cli import main
from tools.core import runs
from tools.core.runs import Refusal

DAY_S = 86_400
BEST = {"ancient": 3.0, "old": 2.0, "better": 1.0, "young": 4.0}
AGE_DAYS = {"ancient": 90, "old": 45, "better": 60, "young": 5}


@pytest.fixture
def out(tmp_path):
    """Four runs of different age and worth."""
    folder = tmp_path / "out"
    folder.mkdir()
    for name, best in BEST.items():
        make_run(folder, name, (5.0, best))
        age(folder, name, AGE_DAYS[name])
    return folder


def age(folder, name, days):
    for path in folder.glob(f"{name}.*"):
        then = time.time() - days * DAY_S
        os.utime(path, (then, then))


@pytest.fixture
def kept(out, tmp_path):
    archive([out], str(tmp_path / "kept"))
    return str(tmp_path / "kept")


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def pruned(capsys, *args):
    """The exit code, and of each run its verdict and why."""
    code = main(["prune", "--json", *map(str, args)])
    rows = map(orjson.loads, capsys.readouterr().out.splitlines())
    return code, {row["run"]: (row["verdict"], row["why"]) for row in rows}


def test_without_yes_it_prints_what_would_be_deleted_and_deletes_nothing(out, kept, capsys):
    before = bytes_of(out)

    code, verdicts = pruned(capsys, out, "--older-than", "30d", "--keep-best", 1, "--archive", kept)

    assert code == 0
    assert verdicts == {
        "ancient": ("would be deleted", "archived, compared"),
        "better": ("stays", "one of the 1 best"),
        "old": ("would be deleted", "archived, compared"),
        "young": ("stays", "not old enough"),
    }
    assert bytes_of(out) == before


def test_with_yes_the_printed_runs_are_deleted_and_can_be_restored(out, kept, capsys):
    before = bytes_of(out)

    code, verdicts = pruned(
        capsys, out, "--older-than", "30d", "--keep-best", 1, "--archive", kept, "--yes"
    )

    assert code == 0
    assert {run for run, (verdict, _) in verdicts.items() if verdict == "deleted"} == {
        "ancient",
        "old",
    }
    assert {name.partition(".")[0] for name in bytes_of(out)} == {"better", "young"}
    for name in ("ancient", "old"):
        restore(name, kept, out)
    assert bytes_of(out) == before


def test_keep_best_needs_no_age_and_a_run_without_evals_is_never_the_best(out, capsys):
    with eventlog.open_run(out, run_name="no_evals", save_interval=0) as run:
        run.log_iter(0, 0.0, 50.0)
    run.journal_path.rename(out / "no_evals.jsonl")

    _, verdicts = pruned(capsys, out, "--keep-best", 2, "--unarchived")

    assert {run for run, (verdict, _) in verdicts.items() if verdict == "stays"} == {
        "better",
        "old",
    }


def test_a_live_run_is_never_deleted(out, capsys):
    with eventlog.open_run(out, run_name="live", save_interval=0) as run:
        run.log_eval(0, 9.0, 9.0)
        eventlog.compact(run.journal_path)
        age(out, run.journal_path.stem, 400)

        _, verdicts = pruned(capsys, out, "--older-than", "1d", "--unarchived", "--yes")

        assert verdicts[run.journal_path.stem] == ("stays", "live")
        assert run.journal_path.exists()
        assert run.run_path.exists()


def test_a_run_that_is_resumed_before_it_is_deleted_stays(out):
    (old,) = [c for c in prune.select_candidates(out) if c.found.path.stem == "old"]

    with (
        eventlog.open_run(journal=out / "old.jsonl", from_iter=2, save_interval=0),
        pytest.raises(Refusal, match="is being written"),
    ):
        prune.delete(old)
    with pytest.raises(Refusal, match="was written to meanwhile"):
        prune.delete(old)

    assert {"old.json", "old.jsonl"} <= bytes_of(out).keys()


def test_an_unarchived_run_stays_without_the_flag(out, kept, capsys):
    make_run(out, "fresh", (5.0, 4.5))
    age(out, "fresh", 100)

    assert pruned(capsys, out, "--older-than", "30d", "--archive", kept, "--yes")[1]["fresh"] == (
        "stays", "not archived",
    )  # fmt: skip
    assert pruned(capsys, out, "--older-than", "30d", "--unarchived", "--yes")[1]["fresh"] == (
        "deleted", "not compared with an archive",
    )  # fmt: skip
    assert not (out / "fresh.jsonl").exists()


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_a_run_that_differs_from_the_archive_in_one_byte_stays(out, kept, capsys, suffix):
    path = out / f"old{suffix}"
    stat = path.stat()
    path.write_bytes(corrupt.flip_bit(path.read_bytes(), stat.st_size - 3))
    os.utime(path, ns=(stat.st_mtime_ns, stat.st_mtime_ns))  # the archive sees no change

    _, verdicts = pruned(capsys, out, "--older-than", "30d", "--archive", kept, "--yes")

    assert verdicts["old"][0] == "stays"
    assert path.exists()


def test_a_run_with_a_file_that_the_archive_does_not_have_stays(out, kept, capsys):
    (out / "old.a1b2c3d4.torn").write_bytes(b'{"n":')
    age(out, "old", 45)

    _, verdicts = pruned(capsys, out, "--older-than", "30d", "--archive", kept, "--yes")

    assert verdicts["old"] == ("stays", "old.a1b2c3d4.torn differs from what is archived")


def test_a_run_whose_bundle_is_damaged_stays(out, kept, tmp_path, capsys):
    (path,) = (tmp_path / "kept").glob("journals/*/old-*")
    path.write_bytes(corrupt.flip_bit(path.read_bytes(), path.stat().st_size // 2))

    _, verdicts = pruned(capsys, out, "--older-than", "30d", "--archive", kept, "--yes")

    assert verdicts["old"][0] == "stays"
    assert "the archive is damaged" in verdicts["old"][1]
    assert verdicts["ancient"][0] == "deleted"


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_links_are_neither_followed_nor_deleted(out, tmp_path, capsys, suffix):
    target = tmp_path / f"elsewhere{suffix}"
    (out / f"ancient{suffix}").rename(target)
    (out / f"ancient{suffix}").symlink_to(target)
    before = bytes_of(out)

    _, verdicts = pruned(capsys, out, "--keep-best", 1, "--unarchived", "--yes")

    assert verdicts["ancient"] == ("stays", "has files that are links")
    assert before["ancient.json"] == (out / "ancient.json").read_bytes()
    assert target.exists()


def test_a_run_with_a_segment_elsewhere_stays(out, tmp_path, capsys):
    with eventlog.open_run(out, run_name="far", fallback=tmp_path, save_interval=0) as run:
        run.log_iter(0, 1.5, 50.0)
    lines = run.journal_path.read_bytes().splitlines(keepends=True)
    name = f"{run.journal_path.stem}.{orjson.loads(lines[0])['s']}.1.segment"
    (tmp_path / name).write_bytes(lines[1])
    run.journal_path.write_bytes(lines[0] + lines[2])

    _, verdicts = pruned(capsys, out, "--keep-best", 1, "--unarchived", "--yes")

    assert verdicts[run.journal_path.stem] == ("stays", f"has a segment in another folder: {name}")


def test_broken_files_and_everything_else_in_the_folder_stay(zoo, capsys):
    (zoo / "ckpt.pt").write_bytes(b"weights")
    shutil.copytree(zoo, zoo / "below")
    before = {path.name for path in zoo.iterdir()}

    _, verdicts = pruned(capsys, zoo, "--older-than", "0s", "--unarchived", "--yes")

    deleted = {run for run, (verdict, _) in verdicts.items() if verdict == "deleted"}
    assert {run for run, (_, why) in verdicts.items() if why == "cannot be read"} == {
        "empty", "empty_journal", "binary", "binary_journal", "no_run", "half", "large",
        "large_journal",
    }  # fmt: skip
    assert verdicts["live"] == ("stays", "live")
    assert before - {path.name for path in zoo.iterdir()} == {
        name for name in before if name.split(".")[0] in deleted
    }
    assert {path.name for path in (zoo / "below").iterdir()} == before - {"below"}


def stop_at(monkeypatch, number):
    """Stop at this change of a file, as a kill does."""
    n_changes = itertools.count(1)

    def stopping(call):
        def change(*args, **options):
            if next(n_changes) == number:
                raise KeyboardInterrupt
            call(*args, **options)

        return change

    for name in ("unlink", "rename"):
        monkeypatch.setattr(prune.os, name, stopping(getattr(os, name)))


@pytest.mark.parametrize("number", range(1, 9))
def test_a_kill_leaves_a_whole_run_or_none_and_the_next_prune_deletes_the_rest(
    tmp_path, monkeypatch, capsys, number
):
    out = tmp_path / "out"
    with eventlog.open_run(out, run_name="large", save_interval=0) as run:
        run.log("table", rows="x" * 1_200_000)
        run.log("table", rows="y" * 1_200_000)
    with eventlog.open_run(journal=run.journal_path, rank=1) as rank:
        rank.log("alive")
    (out / f"{run.journal_path.stem}.a1b2c3d4.torn").write_bytes(b"{")
    eventlog.compact(run.journal_path)
    age(out, run.journal_path.stem, 50)
    assert verify(["verify", str(out)]) == 0

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        stop_at(patch, number)
        main(["prune", str(out), "--older-than", "30d", "--unarchived", "--yes"])

    if any(out.glob("*.jsonl")):
        assert verify(["verify", str(out)]) == 0
    else:
        assert not list(runs.find([out]))
    main(["prune", str(out), "--older-than", "30d", "--unarchived", "--yes"])
    assert not list(out.iterdir())


def test_a_run_that_was_restored_after_a_prune_was_stopped_keeps_what_it_has(
    out, kept, tmp_path, capsys
):
    journal = out / "old.jsonl"
    (out / "old.json").unlink()
    journal.rename(out / "old.jsonl.pruned")  # here an earlier prune was stopped
    restore("old", kept, out)
    with eventlog.open_run(journal=journal, from_iter=2, save_interval=0) as run:
        run.log_iter(2, 0.25, 50.0)
    eventlog.compact(journal)
    before = {path.name: path.read_bytes() for path in (journal, out / "old.json")}

    pruned(capsys, out, "--older-than", "30d", "--archive", kept, "--yes")

    after = bytes_of(out)
    assert before.items() <= after.items()
    assert "old.jsonl.pruned" not in after
    assert archive([journal], kept).states == {"grown": 1}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--unarchived"], "give --older-than"),
        (["--older-than", "30d"], "give --archive URL"),
        (["--older-than", "30d", "--unarchived", "--archive", "x"], "give --archive URL"),
        (["--older-than", "soon", "--unarchived"], "must be a number and s, m, h, d or w"),
        (
            ["--keep-best", "-1", "--unarchived", "--older-than", "0s"],
            "--keep-best: must be a whole number >= 0, got '-1'",
        ),
        (["--older-than", "30d", "--archive", "nowhere"], "not an archive"),
    ],
)
def test_misuse_is_one_line_and_nothing_is_deleted(out, args, message, capsys):
    before = bytes_of(out)

    assert main(["prune", str(out), "--yes", *args]) in (1, 2)

    output, err = capsys.readouterr()
    assert message in err
    assert (output, err.count("\n")) == ("", 1)
    assert bytes_of(out) == before


def test_a_table_shows_what_would_be_deleted_and_its_size(out, kept, capsys):
    assert main(["prune", str(out), "--older-than", "30d", "--archive", kept]) == 0

    output, err = capsys.readouterr()
    assert output.count("would be deleted") == 3
    assert re.match(r"3 of 4 runs would be deleted, [\d.]+ kB; --yes deletes them", err)
