"""Every phase, over real ranks: the same losses, a share of the bytes, and any checkpoint fits.

The default suite goes from each phase into another once; all the ways, in both formats:

    pytest -m slow -n 0 tests/trainer/distributed/test_phases.py
"""

import functools
import json
import os
import shutil
from itertools import product

import pytest
import torch

from trainer import setup as room
from trainer.config import TrainConfig
from trainer.distributed.parallel import divide
from trainer.train import main

# Two gloo ranks add in another order than one: about 1e-7 of a loss near 5.
ROUNDING = 1e-5
PHASES = {
    "ddp": {},
    "zero1": {"use_zero1": True},
    "zero2": {"use_fsdp": True, "fsdp_stage": "zero2"},
    "zero3": {"use_fsdp": True},
}
SHARED = {"gradient_accumulation_steps": 6, "n_layer": 2, "max_iters": 8, "eval_interval": 4}
FIRST_HALF = {"max_iters": 4, "lr_decay_iters": 8}


def slow_but(quick, cases):
    """All the cases, of which those that are not among the quick ones are marked slow."""
    return [pytest.param(*c, marks=() if c in quick else pytest.mark.slow) for c in cases]


@pytest.fixture(scope="module")
def straight(flags, tmp_path_factory):
    """The folder of the run of one process that was never interrupted."""
    out_dir = tmp_path_factory.mktemp("straight")
    assert main(flags(out_dir, **SHARED)) == 0
    return out_dir


@pytest.fixture(scope="module")
def in_ranks(flags, tmp_path_factory, train_in_ranks):
    """`in_ranks(2, "zero1", ...)`: the folder of such a run, made once; what each rank held."""

    @functools.cache
    def folder(n_ranks, phase, **more):
        out_dir = tmp_path_factory.mktemp(phase)
        argv = flags(out_dir, **SHARED | PHASES[phase] | more)
        held = tmp_path_factory.mktemp("held")
        assert train_in_ranks(n_ranks, argv, lambda rank: bytes_held(rank, held)) == [0] * n_ranks
        files = [held / f"rank{rank}.bytes" for rank in range(n_ranks)]
        return out_dir, [json.loads(file.read_text()) for file in files]

    return folder


def assert_same_losses(run, other, tolerance=ROUNDING):
    assert len(run.training_iterations) == len(other.training_iterations)
    for row, its in zip(run.training_iterations, other.training_iterations, strict=True):
        assert row["iter"] == its["iter"]
        assert row["loss"] == pytest.approx(its["loss"], abs=tolerance)
        assert row["grad_norm"] == pytest.approx(its["grad_norm"], abs=tolerance)
    for row, its in zip(run.eval_steps, other.eval_steps, strict=True):
        assert row["val_loss"] == pytest.approx(its["val_loss"], abs=tolerance)


@pytest.mark.parametrize(
    ("world_size", "phase"),
    slow_but({(1, "zero1"), *product([2], PHASES)}, product([1, 2], PHASES)),
)
def test_every_phase_has_the_losses_of_one_process(phase, world_size, straight, in_ranks, only_run):
    folder, _ = in_ranks(world_size, phase)

    run = only_run(folder)
    assert_same_losses(run, only_run(straight))
    assert run.metadata["use_zero1"] == (phase == "zero1")
    assert run.metadata["use_fsdp"] == (phase in ("zero2", "zero3"))
    assert run.metadata["phase"] == {"zero2": "fsdp", "zero3": "fsdp"}.get(phase, phase)


@pytest.mark.parametrize("more", [{"fsdp_replicas": 2}, {"activation_checkpointing": True}])
def test_fsdp_with_replicas_or_recomputed_activations_has_the_losses_of_one_process(
    more, straight, flags, tmp_path, only_run, train_in_ranks
):
    n = 4 if "fsdp_replicas" in more else 2
    shared = SHARED | {"gradient_accumulation_steps": 12, "batch_size": 2, "max_iters": 4}
    main(flags(tmp_path / "one", **shared))

    assert train_in_ranks(n, flags(tmp_path / "n", **shared, use_fsdp=True, **more)) == [0] * n

    assert_same_losses(only_run(tmp_path / "n"), only_run(tmp_path / "one"))


@pytest.mark.parametrize(
    ("first", "then", "format"),
    slow_but(
        {
            ((1, "ddp"), (2, "zero2"), "full"),
            ((2, "zero3"), (3, "zero1"), "sharded"),
        },
        [
            (*way, format)
            for way in (
                ((2, "zero1"), (1, "ddp")),
                ((2, "zero1"), (3, "zero3")),
                ((2, "zero3"), (3, "zero1")),
                ((1, "ddp"), (2, "zero2")),
                ((3, "zero3"), (2, "ddp")),
            )
            for format in ("full", "sharded")
        ],
    ),
    ids=lambda one: one if isinstance(one, str) else f"{one[1]}-on-{one[0]}",
)
def test_a_run_resumes_in_another_phase_at_another_world_size(
    first, then, format, straight, in_ranks, flags, tmp_path, only_run, train_in_ranks
):
    half, _ = in_ranks(*first, **FIRST_HALF, checkpoint_format=format)
    out, (n_ranks, phase) = tmp_path / "out", then
    shutil.copytree(half, out, symlinks=True)

    argv = flags(out, **SHARED, **PHASES[phase], init_from="resume", checkpoint_format=format)
    assert train_in_ranks(n_ranks, argv) == [0] * n_ranks

    run = only_run(out)
    assert_same_losses(run, only_run(straight))
    assert [s["last_iter"] for s in run.journal["sessions"]] == [4, 8]


@pytest.mark.parametrize(
    "phase",
    [
        pytest.param("ddp", marks=pytest.mark.slow),  # test_elastic resumes two such ranks
        "zero1",
        pytest.param("zero2", marks=pytest.mark.slow),
        "zero3",
    ],
)
def test_in_its_own_phase_a_resumed_run_has_the_losses_bit_for_bit(
    phase, in_ranks, flags, tmp_path, only_run, train_in_ranks
):
    whole, _ = in_ranks(2, phase)
    half, _ = in_ranks(2, phase, **FIRST_HALF, checkpoint_format="sharded")
    out, sharded = tmp_path / "out", {**SHARED, **PHASES[phase], "checkpoint_format": "sharded"}
    shutil.copytree(half, out, symlinks=True)

    assert train_in_ranks(2, flags(out, **sharded, init_from="resume")) == [0, 0]

    assert_same_losses(only_run(out), only_run(whole), tolerance=0)


def bytes_held(rank, folder):
    """Let a rank write at its end how many bytes of parameters and optimizer state it has."""
    set_up = room.set_up

    def set_up_and_note(config, ranks):
        run = set_up(config, ranks)
        farewell = run.logger.close

        def close(*args, **more):
            held = {
                "parameters": sum(local_bytes(p) for p in run.model.parameters()),
                "optimizer": sum(local_bytes(t) for t in run.optimizer.state().values()),
            }
            (folder / f"rank{rank}.bytes").write_text(json.dumps(held))
            farewell(*args, **more)

        run.logger.close = close
        return run

    import trainer.train

    trainer.train.set_up = set_up_and_note


def local_bytes(tensor):
    local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local.numel() * local.element_size()


def test_zero1_shards_the_optimizer_state_and_fsdp_the_parameters_too(in_ranks):
    held = {phase: in_ranks(2, phase)[1] for phase in PHASES}

    whole = held["ddp"][0]
    for rank in (0, 1):
        assert held["zero1"][rank]["parameters"] == whole["parameters"]
        assert held["zero1"][rank]["optimizer"] < 0.6 * whole["optimizer"]
        for phase in ("zero2", "zero3"):
            assert held[phase][rank]["parameters"] < 0.6 * whole["parameters"]
            assert held[phase][rank]["optimizer"] < 0.6 * whole["optimizer"]
    assert sum(r["optimizer"] for r in held["zero1"]) == whole["optimizer"]


@pytest.fixture(scope="module")
def straight_with_muon(flags, tmp_path_factory):
    out_dir = tmp_path_factory.mktemp("muon")
    assert main(flags(out_dir, **SHARED, optimizer="muon")) == 0
    return out_dir


@pytest.mark.parametrize("phase", [pytest.param("ddp", marks=pytest.mark.slow), "zero1", "zero3"])
def test_muon_trains_in_every_phase_and_resumes_in_another(
    phase, straight_with_muon, flags, tmp_path, only_run, train_in_ranks
):
    shared = {**SHARED, "optimizer": "muon"}
    half = flags(tmp_path, **shared | PHASES[phase] | FIRST_HALF)
    assert train_in_ranks(2, half) == [0, 0]

    assert main(flags(tmp_path, **shared, init_from="resume")) == 0

    run = only_run(tmp_path)
    assert_same_losses(run, only_run(straight_with_muon), tolerance=1e-5)
    assert run.training_iterations[-1]["loss"] < run.training_iterations[0]["loss"] - 0.3


def test_fsdp_in_bfloat16_tracks_float32(straight, flags, tmp_path, only_run, train_in_ranks):
    argv = flags(tmp_path, **SHARED, use_fsdp=True, dtype="bfloat16")

    assert train_in_ranks(2, argv) == [0, 0]

    run = only_run(tmp_path)
    assert run.metadata["dtype"] == "bfloat16"
    last, other = run.training_iterations[-1], only_run(straight).training_iterations[-1]
    assert last["loss"] == pytest.approx(other["loss"], abs=0.02)
    assert last["loss"] != other["loss"]


def test_contradicting_phases_are_a_one_line_error(flags, tmp_path, capfd, train_in_ranks):
    with pytest.raises(ValueError, match="--use_zero1=True and --use_fsdp=True: choose one"):
        TrainConfig(use_zero1=True, use_fsdp=True)
    with pytest.raises(ValueError, match="--fsdp_replicas=2 requires --use_fsdp=True"):
        TrainConfig(fsdp_replicas=2)

    argv = flags(tmp_path, use_fsdp=True, fsdp_replicas=3)
    assert train_in_ranks(2, argv) == [1, 1]

    refusals = [line for line in capfd.readouterr().err.splitlines() if "fsdp_replicas" in line]
    assert refusals == [
        "train.py: --fsdp_replicas=3: 2 ranks cannot be divided into that many groups; give the "
        "number of nodes"
    ]


def test_parts_have_about_equal_size_and_contain_each_name_once():
    sizes = {f"p{i}": (i * 7919) % 1000 + 1 for i in range(100)}

    part_of = divide(sizes, 7)

    loads = [sum(size for name, size in sizes.items() if part_of[name] == r) for r in range(7)]
    assert list(part_of) == list(sizes)
    assert max(loads) - min(loads) <= max(sizes.values())


def test_with_one_rank_every_phase_has_the_same_losses(straight, flags, tmp_path, only_run):
    """One process needs no process group, with any flags."""
    assert "WORLD_SIZE" not in os.environ
    assert main(flags(tmp_path, **SHARED, use_fsdp=True)) == 0

    assert not torch.distributed.is_initialized()
    assert_same_losses(only_run(tmp_path), only_run(straight), tolerance=0)


def test_without_a_gpu_use_triton_prints_a_line_and_trains_the_same(
    straight, flags, tmp_path, only_run, capsys
):
    assert main(flags(tmp_path, **SHARED, use_triton=True)) == 0

    lines = [line for line in capsys.readouterr().out.splitlines() if "--use_triton" in line]
    assert len(lines) == 1
    assert lines[0].endswith("; training without it")
    run = only_run(tmp_path)
    assert run.metadata["use_triton"] is False
    assert run.config["use_triton"] is True
    assert_same_losses(run, only_run(straight), tolerance=0)
