"""Several nodes: here two torchrun agents on loopback that know each other by address alone.

pytest -m slow -n 0 tests/trainer/distributed/test_nodes.py
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import eventlog
from trainer.train import main

pytestmark = pytest.mark.slow

TRAINER = Path(__file__).parents[3] / "trainer" / "train.py"
ROUNDING = 1e-5  # two ranks add in another order than one
PATIENCE_S = 300.0


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def by_address(port):
    """Every agent has a fixed number: no node may be lost."""
    return lambda node: [
        "--nnodes=2", f"--node_rank={node}", "--master_addr=127.0.0.1", f"--master_port={port}",
    ]  # fmt: skip


def by_rendezvous(port):
    """Every agent runs the same command, and they agree on their numbers.

    Whether the endpoint is this node, torchrun sees by its name; here both have it.
    """
    return lambda node: [
        "--nnodes=2", "--rdzv_backend=c10d", f"--rdzv_endpoint=127.0.0.1:{port}", "--rdzv_id=job",
        f"--rdzv_conf=is_host={1 - node}",
    ]  # fmt: skip


def start_node(node, rendezvous, argv, *more, n_ranks=1, **environment):
    """An agent of `n_ranks`."""
    command = [
        sys.executable, "-m", "torch.distributed.run", *rendezvous(node),
        f"--nproc_per_node={n_ranks}", *more, str(TRAINER), *argv,
    ]  # fmt: skip
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment)


def start_nodes(*args, **how):
    """Two agents, of which the first keeps the rendezvous."""
    return [start_node(node, *args, **how) for node in (0, 1)]


def assert_same_losses(run, other):
    assert len(run.training_iterations) == len(other.training_iterations)
    for row, its in zip(run.training_iterations, other.training_iterations, strict=True):
        assert row["loss"] == pytest.approx(its["loss"], abs=ROUNDING)
        assert row["grad_norm"] == pytest.approx(its["grad_norm"], abs=ROUNDING)
    for row, its in zip(run.eval_steps, other.eval_steps, strict=True):
        assert row["val_loss"] == pytest.approx(its["val_loss"], abs=ROUNDING)


@pytest.mark.parametrize("agree", [by_address, by_rendezvous])
def test_two_nodes_have_one_journal_and_the_losses_of_one_process(agree, flags, tmp_path, only_run):
    main(flags(tmp_path / "one"))

    nodes = start_nodes(agree(free_port()), flags(tmp_path / "two"))
    assert [node.wait(PATIENCE_S) for node in nodes] == [0, 0]

    run = only_run(tmp_path / "two")
    assert run.metadata["world_size"] == 2
    assert_same_losses(run, only_run(tmp_path / "one"))


def test_two_nodes_of_two_ranks_use_hybrid_sharding(flags, tmp_path, only_run):
    shared = {"gradient_accumulation_steps": 4, "n_layer": 2}
    main(flags(tmp_path / "one", **shared))
    argv = flags(tmp_path / "two", **shared, use_fsdp=True, fsdp_replicas=2)

    nodes = start_nodes(by_rendezvous(free_port()), argv, n_ranks=2)
    assert [node.wait(PATIENCE_S) for node in nodes] == [0, 0]

    run = only_run(tmp_path / "two")
    assert run.metadata["world_size"] == 4
    assert_same_losses(run, only_run(tmp_path / "one"))


LONG = {"max_iters": 120, "eval_interval": 20, "eval_iters": 2}


@pytest.mark.parametrize("agree", [by_address, by_rendezvous])
def test_a_rank_killed_on_the_other_node_is_restarted_in_the_same_run(
    agree, flags, tmp_path, only_run
):
    """Also on the node where nothing died, and which does not count a restart."""
    out = tmp_path / "two"
    main(flags(tmp_path / "one", **LONG))
    nodes = start_nodes(agree(free_port()), flags(out, **LONG), "--max-restarts=3")
    wait_for(lambda: last_iter(out) >= 30, "iteration 30")
    os.kill(rank_1(out), signal.SIGKILL)

    assert [node.wait(PATIENCE_S) for node in nodes] == [0, 0]
    run = only_run(out)
    first, *_, last = run.journal["sessions"]
    assert len(run.journal["sessions"]) > 1
    assert last["from_iter"] in (20, 40)
    assert run.journal["superseded"]["iterations"] == first["last_iter"] + 1 - last["from_iter"]
    assert_same_losses(run, only_run(tmp_path / "one"))


def test_a_lost_and_replaced_node_repeats_nothing(flags, tmp_path, only_run):
    """Its rank tells the others before it goes: all save, and wait for a node in its place.

    torchrun (torch 2.13) tells a node that comes later where the store is only if it makes one
    for each start; else both give up after a minute.
    """
    out = tmp_path / "two"
    main(flags(tmp_path / "one", **LONG))
    how = (by_rendezvous(free_port()), flags(out, **LONG), "--max-restarts=3")
    new_stores = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    kept, lost = start_nodes(*how, **new_stores)
    wait_for(lambda: last_iter(out) >= 30, "iteration 30")
    lost.kill()
    lost.wait()
    wait_for(lambda: status(out) == "interrupted", "end of the session")

    given_back = start_node(1, *how, **new_stores)

    assert [node.wait(PATIENCE_S) for node in (kept, given_back)] == [0, 0]
    run = only_run(out)
    assert len(run.journal["sessions"]) == 2
    assert run.journal["superseded"]["iterations"] == 0
    assert_same_losses(run, only_run(tmp_path / "one"))


def wait_for(condition, what):
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, f"no {what} within {PATIENCE_S} s"
        time.sleep(0.05)


def status(out_dir):
    (path,) = out_dir.glob("*.jsonl")
    return eventlog.load_run(path).journal["status"]


def last_iter(out_dir):
    rows = [
        record.fields["iter"]
        for journal in out_dir.glob("*.jsonl")
        for record in eventlog.scan(journal)
        if record.event == "iter"
    ]
    return max(rows, default=-1)


def rank_1(out_dir):
    """Process id of rank 1 of the run in that folder."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(f"--out_dir={out_dir}") in command and b"RANK=1" in environment:
            return int(folder.name)
    raise AssertionError("there is no rank 1")
