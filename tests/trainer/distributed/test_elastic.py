"""Killed, stopped, restarted: one journal, one curve, and the losses of an uninterrupted run.

The quick form kills forked ranks; the long one, real ones under torchrun, KILLS times each way:

    KILLS=10 pytest -m slow -n 0 -s tests/trainer/distributed/test_elastic.py
"""

import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import eventlog
from trainer import interrupt
from trainer import setup as room
from trainer.checkpoint import layout, read, write
from trainer.checkpoint.run_files import runs_in
from trainer.data.dataset import Batches
from trainer.train import main

TRAINER = Path(__file__).parents[3] / "trainer" / "train.py"
KILLS = int(os.environ.get("KILLS", "10"))
PATIENCE_S = 60.0


def do_at(iter_num, action):
    """In this process: call `action()` when the batch of that iteration is read."""
    train_batch = Batches.train

    def batch_and_act(self, iter, micro_step):
        if iter == iter_num and micro_step == 0:
            action()
        return train_batch(self, iter, micro_step)

    Batches.train = batch_and_act


def send(number):
    return lambda: os.kill(os.getpid(), number)


def in_child(work):
    """Call `work()` in a forked process, which exits with its result; the process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        status = work()
    finally:  # whatever it raised, nothing of the tests may go on in there
        os._exit(status)


def status_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait_for(condition, what):
    """Poll until `condition()` is true, and return that."""
    give_up = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < give_up, f"no {what} within {PATIENCE_S} s"
        time.sleep(0.01)
    return found


def living(needle):
    """The other processes whose command line contains `needle`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(str(needle)) in command and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def saved_iters(out_dir):
    """Iteration of each checkpoint event in the folder's only journal, in order."""
    (journal,) = out_dir.glob("*.jsonl")
    return [r.fields["iter"] for r in eventlog.scan(journal) if r.event == "checkpoint"]


@pytest.fixture(scope="module")
def straight(flags, tmp_path_factory, train_in_ranks):
    """The folder of a run of two ranks that was never interrupted."""
    out_dir = tmp_path_factory.mktemp("straight")
    assert train_in_ranks(2, flags(out_dir)) == [0, 0]
    return out_dir


# One rank, or all of them


@pytest.mark.parametrize(("victim", "format"), [(0, "full"), (1, "sharded")])
def test_a_killed_rank_costs_only_the_iterations_since_the_checkpoint(
    victim, format, straight, flags, tmp_path, only_run, train_in_ranks, losses, capfd
):
    at = random.randint(8, 11)

    def kill_one(rank):
        if rank == victim:
            do_at(at, send(signal.SIGKILL))

    shared = {"checkpoint_format": format, "async_checkpoint": False}
    statuses = train_in_ranks(2, flags(tmp_path, **shared), kill_one)
    assert statuses[victim] == -signal.SIGKILL
    assert statuses[1 - victim] != 0

    assert train_in_ranks(2, flags(tmp_path, **shared, init_from="auto")) == [0, 0]

    run = only_run(tmp_path)
    first, second = run.journal["sessions"]
    assert losses(run) == losses(only_run(straight))
    assert second["from_iter"] == 6
    assert run.journal["superseded"]["iterations"] == first["last_iter"] - 6 + 1
    assert run.journal["missing_iterations"] == []
    assert "skipped" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("number", "format"),
    [
        (signal.SIGTERM, "sharded"),
        (signal.SIGINT, "full"),
        pytest.param(signal.SIGTERM, "full", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, "sharded", marks=pytest.mark.slow),
    ],
)
def test_a_stop_at_any_iteration_repeats_nothing(
    number, format, straight, flags, tmp_path, only_run, train_in_ranks, losses
):
    at = random.randint(0, 11)
    argv = flags(tmp_path, checkpoint_format=format)
    assert train_in_ranks(2, argv, lambda rank: do_at(at, send(number))) == [128 + number] * 2

    assert train_in_ranks(2, [*argv, "--init_from=auto"]) == [0, 0]

    run = only_run(tmp_path)
    assert losses(run) == losses(only_run(straight))
    assert run.journal["superseded"]["iterations"] == 0
    assert [s["last_iter"] for s in run.journal["sessions"]] == [at, 12]


def test_a_save_signal_to_one_rank_saves_on_all_and_changes_no_loss(
    straight, flags, tmp_path, only_run, train_in_ranks, losses
):
    def wish(rank):
        if rank == 1:
            do_at(3, send(signal.SIGUSR1))

    assert train_in_ranks(2, flags(tmp_path), wish) == [0, 0]

    run = only_run(tmp_path)
    assert losses(run) == losses(only_run(straight))
    assert [row["iter"] for row in run.checkpoints] == [4, 6, 12]
    assert run.journal["events"]["signal"] == 1


def test_a_save_signal_during_an_eval_saves_after_it(
    flags, tmp_path, only_run, monkeypatch, losses
):
    eval_batch, calls = Batches.eval, []

    def eval_and_wish(self, split, index):
        calls.append(index)
        if len(calls) == 8:  # of the second eval, at iteration 6
            signal.raise_signal(signal.SIGUSR1)
        return eval_batch(self, split, index)

    monkeypatch.setattr(Batches, "eval", eval_and_wish)
    assert main(flags(tmp_path)) == 0

    assert [row["iter"] for row in only_run(tmp_path).checkpoints] == [6, 7, 12]


def test_two_saves_of_one_iteration_are_two_intact_checkpoints(flags, tmp_path, train_in_ranks):
    """A requested save before iteration 6, and the save of the evaluation right after it."""

    def wish_and_seal_slowly(rank):
        if rank == 1:
            do_at(5, send(signal.SIGUSR1))
        else:
            seal = write.seal
            write.seal = lambda folder: (time.sleep(1), seal(folder))[1]

    argv = flags(
        tmp_path, checkpoint_format="sharded", keep_checkpoints=5, max_iters=6, eval_iters=1
    )
    assert train_in_ranks(2, argv, wish_and_seal_slowly) == [0, 0]

    assert saved_iters(tmp_path) == [6, 6]
    (run,) = runs_in(tmp_path)
    assert len(layout.numbered(run.folder, "")) == 2
    for folder in layout.numbered(run.folder, ""):
        read.check_manifest(folder)
        assert read.load(folder)["iter_num"] == 6


# Started again by its launcher


def launch(flags_, folder, prepare, name="launch"):
    """One rank as torchrun starts it, from a process that is its launcher; its exit status."""

    def train():
        os.environ["TORCHELASTIC_RUN_ID"] = name
        prepare()
        return main(flags_(folder, max_iters=12))

    return status_of(in_child(train))


def test_killed_before_its_first_checkpoint_it_continues_in_its_own_journal(
    straight, flags, tmp_path, losses
):
    """And not from the checkpoint that an older run has left in the folder."""
    main(flags(tmp_path, seed=7, max_iters=1, wandb_run_name="older"))
    older = (tmp_path / "ckpt.pt").read_bytes()

    assert launch(flags, tmp_path, lambda: do_at(4, send(signal.SIGKILL))) == -signal.SIGKILL
    assert (tmp_path / "ckpt.pt").read_bytes() == older
    assert launch(flags, tmp_path, lambda: None) == 0

    (journal,) = tmp_path.glob("run_*.jsonl")
    run = eventlog.load_run(journal)
    assert [s.get("from_iter") for s in run.journal["sessions"]] == [None, 0]
    assert run.journal["superseded"]["iterations"] == 4
    assert [row["iter"] for row in run.training_iterations] == list(range(13))
    assert run.config["seed"] == 1337


def test_an_unreadable_checkpoint_does_not_stop_a_restart_that_has_saved_nothing(flags, tmp_path):
    (tmp_path / "ckpt.pt").write_bytes(b"of some other program")

    assert launch(flags, tmp_path, lambda: do_at(4, send(signal.SIGKILL))) == -signal.SIGKILL

    assert launch(flags, tmp_path, lambda: None) == 0


def test_another_launch_from_scratch_is_another_run(flags, tmp_path):
    assert launch(flags, tmp_path, lambda: None, name="one") == 0
    assert launch(flags, tmp_path, lambda: None, name="two") == 0

    assert len(list(tmp_path.glob("*.jsonl"))) == 2


# Left alone by its launcher


def test_the_ranks_of_a_killed_launcher_save_and_exit(
    straight, flags, tmp_path, only_run, train_in_ranks, losses
):
    pids = tmp_path / "pids"

    def note_and_wait(rank):
        with pids.open("a") as file:
            file.write(f"{os.getpid()}\n")
        do_at(8, lambda: wait_for((tmp_path / "killed").exists, "kill"))

    def launcher_of_two():
        os.environ["TORCHELASTIC_RUN_ID"] = "launch"
        train_in_ranks(2, flags(out, async_checkpoint=False), note_and_wait)

    out = tmp_path / "out"
    launcher = in_child(launcher_of_two)
    wait_for(lambda: list(out.glob("*.jsonl")) and 6 in saved_iters(out), "checkpoint")
    os.kill(launcher, signal.SIGKILL)
    os.waitpid(launcher, 0)
    (tmp_path / "killed").touch()
    ranks = [int(line) for line in pids.read_text().split()]
    wait_for(lambda: not any(map(is_alive, ranks)), "end of the orphans")

    run = only_run(out)
    assert len(ranks) == 2
    assert (run.journal["status"], run.journal["reason"]) == ("interrupted", "SIGTERM")
    assert train_in_ranks(2, flags(out, init_from="auto")) == [0, 0]
    run = only_run(out)
    assert losses(run) == losses(only_run(straight))
    assert run.journal["superseded"]["iterations"] == 0


def contents(out_dir):
    """The bytes of every file in a folder but for the run JSON, which the compactor writes."""
    files = [path for path in out_dir.rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in files if path.suffix not in (".json", ".tmp")}


def test_a_second_launch_of_a_running_run_fails_and_names_the_process(
    flags, tmp_path, capfd, only_run
):
    out = tmp_path / "out"

    def wait_for_the_message():
        (tmp_path / "there").touch()
        wait_for((tmp_path / "go").exists, "go")

    def train_until_the_message():
        do_at(8, wait_for_the_message)
        return main(flags(out, async_checkpoint=False))  # or its event may come meanwhile

    child = in_child(train_until_the_message)
    wait_for((tmp_path / "there").exists, "iteration 8")  # a reader may see half of a line before
    before = contents(out)

    assert main(flags(out, init_from="auto")) == 1

    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("train.py: ")
    assert f"is being written by process {child} on {socket.gethostname()}" in last
    assert before == contents(out)
    (tmp_path / "go").touch()
    assert status_of(child) == 0
    assert only_run(out).journal["status"] == "completed"


def test_a_checkpoint_saved_by_an_orphan_meanwhile_leaves_no_gap_in_the_curve(
    flags, tmp_path, only_run, monkeypatch, losses
):
    """The orphan reached 9 while the new launch, which had found 6, prepared its data."""
    main(flags(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        patch.setattr(Batches, "train", Batches.train)
        do_at(8, send(signal.SIGTERM))
        assert main(flags(tmp_path / "out", keep_checkpoints=2)) == 143
    out, nine = tmp_path / "out", tmp_path / "nine.pt"
    (run,) = runs_in(out)
    (run.folder / "ckpt.00000009.pt").rename(nine)
    (run.folder / "ckpt.pt").unlink()
    open_data = room.open_data

    def late_save(*args):
        shutil.copy(nine, run.folder / "ckpt.pt")
        return open_data(*args)

    def go_on_and_die():
        room.open_data = late_save
        do_at(7, send(signal.SIGKILL))
        return main(flags(out, init_from="auto"))

    assert status_of(in_child(go_on_and_die)) == -signal.SIGKILL

    assert main(flags(out, init_from="auto")) == 0

    run = only_run(out)
    assert run.journal["missing_iterations"] == []
    assert losses(run) == losses(only_run(tmp_path / "whole"))
    assert [s.get("from_iter") for s in run.journal["sessions"]] == [None, 6, 6]


def test_a_rank_whose_launcher_died_early_exits(monkeypatch):
    received = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: type("C", (), {"prctl": lambda *a: 0}))
    monkeypatch.setattr(os, "kill", lambda pid, number: received.append(number))
    monkeypatch.setattr(os, "getppid", lambda: 1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "launch")

    interrupt.end_with_launcher()
    assert received == [signal.SIGTERM]

    # in a container torchrun may well be process 1
    monkeypatch.setattr(interrupt, "is_launcher", lambda pid: True)
    interrupt.end_with_launcher()
    assert received == [signal.SIGTERM]


def test_a_launcher_whose_threads_die_one_by_one_counts_as_one_signal(tmp_path):
    """Each tells: a second one, seconds later, must not end the rank while it saves."""
    program = (
        "import ctypes, os, platform, threading, time\n"
        "from trainer.interrupt import Interrupt, end_with_launcher\n"
        "if os.fork() == 0:\n"
        "    end_with_launcher()\n"
        "    with Interrupt() as interrupt:\n"
        "        print('ready', flush=True)\n"
        "        while not interrupt.stop_signal: time.sleep(0.01)\n"
        "        time.sleep(3)\n"
        "    print('saved', flush=True)\n"
        "    os._exit(0)\n"
        "threading.Thread(target=lambda: (time.sleep(2), os._exit(0))).start()\n"
        "time.sleep(0.5)\n"
        "this_thread_alone = 60 if platform.machine() == 'x86_64' else 93\n"
        "ctypes.CDLL(None).syscall(this_thread_alone, 0)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"TORCHELASTIC_RUN_ID": "launch"}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    assert process.communicate(timeout=PATIENCE_S)[0] == "ready\nsaved\n"


def test_a_launcher_runs_the_same_interpreter():
    sleeper = subprocess.Popen(["sleep", "60"])
    assert interrupt.is_launcher(os.getpid())
    assert not interrupt.is_launcher(sleeper.pid)
    sleeper.kill()
    sleeper.wait()


def test_a_stop_without_a_save_says_so(flags, tmp_path, monkeypatch, capfd):
    def full(*args, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "save_full", full)
    monkeypatch.setattr(Batches, "train", Batches.train)
    do_at(3, send(signal.SIGTERM))
    assert main(flags(tmp_path)) == 143

    last = capfd.readouterr().out.splitlines()[-1]
    assert "SIGTERM: could not be saved before iteration 4; this run has no checkpoint" in last
    assert "to begin again" in last


# As processes, under torchrun


def torchrun(out_dir, argv, *more, **environment):
    """Two ranks under a torchrun whose process group is its own, their output in a file."""
    log = (out_dir.parent / f"{out_dir.name}.log").open("ab")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", *more,
        str(TRAINER), *argv,
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    with log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )


def iteration_of(out_dir, after=0):
    """The last iteration in the folder's only journal, of the records behind that many bytes."""
    for journal in out_dir.glob("*.jsonl"):
        with journal.open("rb") as file:
            file.seek(after)
            rows = [line for line in file.read().splitlines() if b'"event":"iter"' in line]
        if rows:
            return int(rows[-1].partition(b'"iter":')[2].split(b",")[0].strip(b" }"))
    return -1


def size_of_journal(out_dir):
    return sum(path.stat().st_size for path in out_dir.glob("*.jsonl"))


def ranks_of(launcher):
    """Process ids of the ranks that a torchrun has started, rank 0 first."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            names = dict(
                pair.split(b"=", 1)
                for pair in (folder / "environ").read_bytes().split(b"\0")
                if b"=" in pair
            )
        except (OSError, ValueError):
            continue
        if parent == launcher and b"LOCAL_RANK" in names:
            found[int(names[b"LOCAL_RANK"])] = int(folder.name)
    return [pid for _, pid in sorted(found.items())]


def test_torchrun_restarts_a_killed_rank_and_a_sigterm_to_torchrun_stops_the_run_cleanly(
    flags, tmp_path, only_run, train_in_ranks, losses
):
    """Two real ranks; the log says who stopped it, and there is one curve."""
    shared = {"eval_interval": 40, "lr_decay_iters": 160, "async_checkpoint": False}
    straight, out = tmp_path / "straight", tmp_path / "out"
    process = torchrun(
        out, flags(out, max_iters=100_000, **shared), "--standalone", "--max-restarts=3"
    )
    wait_for(lambda: iteration_of(out) >= 45, "iteration 45")
    os.kill(ranks_of(process.pid)[0], signal.SIGKILL)
    size = size_of_journal(out)
    wait_for(lambda: iteration_of(out, after=size) >= 50, "iteration 50 after the restart")
    process.terminate()
    process.wait(PATIENCE_S)

    run = only_run(out)
    first, second = run.journal["sessions"]
    assert (run.journal["status"], run.journal["reason"]) == ("interrupted", "SIGTERM")
    assert run.metadata["world_size"] == 2
    assert saved_iters(out)[-1] == len(run.training_iterations)
    assert second["from_iter"] % 40 == 0
    assert second["from_iter"] > 0
    repeated = first["last_iter"] + 1 - second["from_iter"]
    assert run.journal["superseded"]["iterations"] == repeated
    max_iters = len(run.training_iterations) - 1
    assert train_in_ranks(2, flags(straight, max_iters=max_iters, **shared)) == [0, 0]
    assert losses(run) == losses(only_run(straight))
    wait_for(lambda: not any(map(is_alive, living(out))), "end of all processes")


@pytest.mark.slow
def test_torchrun_restarts_a_killed_rank_in_the_same_run_even_before_a_checkpoint(
    flags, tmp_path, only_run, train_in_ranks, losses
):
    """Once before the first checkpoint, and once after it."""
    shared = {
        "max_iters": 160, "eval_interval": 40, "log_save_interval": 20, "async_checkpoint": False,
    }  # fmt: skip
    straight, out = tmp_path / "straight", tmp_path / "out"
    main(flags(out, seed=7, max_iters=1, save_log_to_json=False))  # an older run's checkpoint
    process = torchrun(out, flags(out, **shared), "--standalone", "--max-restarts=3")
    for at, victim in ((5, 1), (45, 0)):
        wait_for(lambda at=at: iteration_of(out) >= at, f"iteration {at}")
        os.kill(ranks_of(process.pid)[victim], signal.SIGKILL)
        size = size_of_journal(out)
        wait_for(lambda size=size: iteration_of(out, after=size) >= 0, "restart")
    assert process.wait(PATIENCE_S) == 0

    assert train_in_ranks(2, flags(straight, **shared)) == [0, 0]
    run = only_run(out)
    first, second, third = run.journal["sessions"]
    assert losses(run) == losses(only_run(straight))
    assert second["from_iter"] == 0
    assert third["from_iter"] % 40 == 0
    assert third["from_iter"] > 0
    repeated = first["last_iter"] + 1 + second["last_iter"] + 1 - third["from_iter"]
    assert run.journal["superseded"]["iterations"] == repeated
    wait_for(lambda: not any(map(is_alive, living(out))), "end of all processes")


@pytest.mark.slow
@pytest.mark.parametrize("ignored", [True, False])
def test_a_save_signal_to_torchrun_stops_or_is_ignored(ignored, flags, tmp_path, only_run):
    """As Slurm does. torchrun dies of it unless it was started with the signal ignored."""
    out = tmp_path / "out"
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN if ignored else signal.SIG_DFL)
    process = torchrun(out, flags(out, max_iters=300, eval_interval=150), "--standalone")
    signal.signal(signal.SIGUSR1, before)
    wait_for(lambda: iteration_of(out) >= 20, "iteration 20")
    for pid in (process.pid, *ranks_of(process.pid)):
        os.kill(pid, signal.SIGUSR1)
    status = process.wait(PATIENCE_S)
    wait_for(lambda: not any(map(is_alive, living(out))), "end of all processes")

    run = only_run(out)
    if ignored:
        assert (status, run.journal["status"], len(run.training_iterations)) == (
            0,
            "completed",
            301,
        )
        assert 20 <= saved_iters(out)[0] < 150
        assert run.journal["events"]["signal"] >= 1
    else:
        assert (status, run.journal["status"]) == (-signal.SIGUSR1, "interrupted")
        assert saved_iters(out)[-1] == len(run.training_iterations)


ENDINGS = {
    "kill -9 a rank": lambda launcher: os.kill(random.choice(ranks_of(launcher)), signal.SIGKILL),
    "kill -9 torchrun": lambda launcher: os.kill(launcher, signal.SIGKILL),
    "SIGTERM": lambda launcher: os.kill(launcher, signal.SIGTERM),
    "Ctrl-C": lambda launcher: os.killpg(launcher, signal.SIGINT),
    "SIGTERM to all": lambda launcher: [
        os.kill(pid, signal.SIGTERM) for pid in (launcher, *ranks_of(launcher))
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("format", ["full", "sharded"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_run_interrupted_repeatedly_has_the_losses_of_an_uninterrupted_one(
    ending, format, flags, tmp_path, only_run, train_in_ranks, losses, capsys
):
    """One run, ended KILLS times at random iterations, and started again by hand each time."""
    shared = {
        "max_iters": 60 * KILLS, "eval_interval": 20, "eval_iters": 1,
        "log_save_interval": 20, "checkpoint_format": format,
    }  # fmt: skip
    straight, out = tmp_path / "straight", tmp_path / "out"
    assert train_in_ranks(2, flags(straight, **shared)) == [0, 0]
    argv = flags(out, **shared, init_from="auto")
    chance = random.Random()
    begin, n_repeated = 0, []
    for _ in range(KILLS):
        size = size_of_journal(out)
        process = torchrun(out, argv, "--standalone")
        at = begin + chance.randrange(20, 45)
        wait_for(lambda at=at, size=size: iteration_of(out, after=size) >= at, f"iteration {at}")
        ENDINGS[ending](process.pid)
        process.wait(PATIENCE_S)
        wait_for(lambda: not any(map(is_alive, living(out))), "end of all processes")
        last, begin = iteration_of(out), saved_iters(out)[-1]
        n_repeated.append(last + 1 - begin)
    assert torchrun(out, argv, "--standalone").wait(10 * PATIENCE_S) == 0

    run, whole = only_run(out), only_run(straight)
    sessions = run.journal["sessions"]
    assert losses(run) == losses(whole)
    assert [row["val_loss"] for row in run.eval_steps] == [
        row["val_loss"] for row in whole.eval_steps
    ]
    assert len(sessions) == KILLS + 1
    resumed_at = [s["from_iter"] for s in sessions[1:]]
    repeated = [s["last_iter"] + 1 - then for s, then in zip(sessions, resumed_at, strict=False)]
    # A checkpoint may be on disk without its event: then it costs even less than the journal knew.
    assert all(0 <= now <= most for now, most in zip(repeated, n_repeated, strict=True))
    assert run.journal["superseded"]["iterations"] == sum(repeated)
    assert run.journal["missing_iterations"] == []
    assert "skipped" not in (tmp_path / "out.log").read_text()
    if ending != "kill -9 a rank":
        assert sum(repeated) == 0
    with capsys.disabled():
        print(
            f"\n{ending}, {format}: {KILLS} times at {[s['last_iter'] for s in sessions[:-1]]}, "
            f"repeated {repeated}, {len(run.training_iterations)} losses equal bit for bit"
        )
