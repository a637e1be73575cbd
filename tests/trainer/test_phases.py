"""Every phase, over real ranks: the same losses, a share of the bytes, and any checkpoint fits."""

import json
import os

import pytest
import torch

from trainer import run as room
from trainer.config import TrainConfig
from trainer.parallel import divide
from trainer.train import main

# Two gloo ranks add in another order than one: about 1e-7 of a loss near 5.
ROUNDING = 1e-5
PHASES = {
    "ddp": {},
    "zero1": {"use_zero1": True},
    "zero2": {"use_fsdp": True, "fsdp_stage": "zero2"},
    "zero3": {"use_fsdp": True},
}
SHARED = {"gradient_accumulation_steps": 6, "n_layer": 2}


@pytest.fixture(scope="module")
def straight(flags, tmp_path_factory):
    """The folder of the run of one process that was never interrupted."""
    out_dir = tmp_path_factory.mktemp("straight")
    assert main(flags(out_dir, **SHARED)) == 0
    return out_dir


def assert_same_losses(run, other, tolerance=ROUNDING):
    assert len(run.training_iterations) == len(other.training_iterations)
    for row, its in zip(run.training_iterations, other.training_iterations, strict=True):
        assert row["iter"] == its["iter"]
        assert row["loss"] == pytest.approx(its["loss"], abs=tolerance)
        assert row["grad_norm"] == pytest.approx(its["grad_norm"], abs=tolerance)
    for row, its in zip(run.eval_steps, other.eval_steps, strict=True):
        assert row["val_loss"] == pytest.approx(its["val_loss"], abs=tolerance)


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_has_the_losses_of_one_process(
    phase, world_size, straight, flags, tmp_path, only_run, train_in_ranks
):
    argv = flags(tmp_path, **SHARED, **PHASES[phase])

    assert train_in_ranks(world_size, argv) == [0] * world_size

    run = only_run(tmp_path)
    assert_same_losses(run, only_run(straight))
    assert run.metadata["use_zero1"] == (phase == "zero1")
    assert run.metadata["use_fsdp"] == (phase in ("zero2", "zero3"))
    assert run.metadata["phase"] == {"zero2": "fsdp", "zero3": "fsdp"}.get(phase, phase)


@pytest.mark.parametrize("more", [{"fsdp_replicas": 2}, {"activation_checkpointing": True}])
def test_fsdp_over_groups_of_ranks_or_with_activations_computed_twice_has_them_too(
    more, straight, flags, tmp_path, only_run, train_in_ranks
):
    n = 4 if "fsdp_replicas" in more else 2
    shared = SHARED | {"gradient_accumulation_steps": 12, "batch_size": 2}
    main(flags(tmp_path / "one", **shared))

    assert train_in_ranks(n, flags(tmp_path / "n", **shared, use_fsdp=True, **more)) == [0] * n

    assert_same_losses(only_run(tmp_path / "n"), only_run(tmp_path / "one"))


@pytest.mark.parametrize("format", ["full", "sharded"])
@pytest.mark.parametrize(
    ("first", "then"),
    [
        ((2, "zero1"), (1, "ddp")),
        ((2, "zero1"), (3, "zero3")),
        ((2, "zero3"), (3, "zero1")),
        ((1, "ddp"), (2, "zero2")),
        ((3, "zero3"), (2, "ddp")),
    ],
    ids=lambda one: f"{one[1]}-on-{one[0]}",
)
def test_a_run_goes_on_in_another_phase_at_another_world_size(
    first, then, format, straight, flags, tmp_path, only_run, train_in_ranks
):
    for (n_ranks, phase), how in (
        (first, {"max_iters": 6, "lr_decay_iters": 12}),
        (then, {"init_from": "resume"}),
    ):
        argv = flags(tmp_path, **SHARED, **PHASES[phase], **how, checkpoint_format=format)
        assert train_in_ranks(n_ranks, argv) == [0] * n_ranks

    run = only_run(tmp_path)
    assert_same_losses(run, only_run(straight))
    assert [s["last_iter"] for s in run.journal["sessions"]] == [6, 12]


@pytest.mark.parametrize("phase", PHASES)
def test_in_its_own_phase_a_resumed_run_has_the_losses_bit_for_bit(
    phase, flags, tmp_path, only_run, train_in_ranks
):
    argv = {**SHARED, **PHASES[phase], "checkpoint_format": "sharded"}
    train_in_ranks(2, flags(tmp_path / "whole", **argv))
    train_in_ranks(2, flags(tmp_path / "parts", **argv, max_iters=6, lr_decay_iters=12))

    assert train_in_ranks(2, flags(tmp_path / "parts", **argv, init_from="resume")) == [0, 0]

    assert_same_losses(only_run(tmp_path / "parts"), only_run(tmp_path / "whole"), tolerance=0)


def bytes_held(rank, folder):
    """Have a rank write down at its end what it holds of parameters and optimizer state."""
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


def test_zero1_divides_the_state_and_fsdp_the_parameters_too(
    flags, tmp_path, train_in_ranks, straight
):
    held = {}
    for phase, how in PHASES.items():
        folder = tmp_path / phase
        folder.mkdir()
        argv = flags(folder, **SHARED, **how, max_iters=1)
        assert train_in_ranks(2, argv, lambda rank, f=folder: bytes_held(rank, f)) == [0, 0]
        files = [folder / f"rank{rank}.bytes" for rank in (0, 1)]
        held[phase] = [json.loads(file.read_text()) for file in files]

    whole = held["ddp"][0]
    for rank in (0, 1):
        assert held["zero1"][rank]["parameters"] == whole["parameters"]
        assert held["zero1"][rank]["optimizer"] < 0.6 * whole["optimizer"]
        for phase in ("zero2", "zero3"):
            assert held[phase][rank]["parameters"] < 0.6 * whole["parameters"]
            assert held[phase][rank]["optimizer"] < 0.6 * whole["optimizer"]
    assert sum(r["optimizer"] for r in held["zero1"]) == whole["optimizer"]


@pytest.mark.parametrize("phase", ["ddp", "zero1", "zero3"])
def test_muon_trains_in_every_phase_and_goes_on_in_another(
    phase, flags, tmp_path, only_run, train_in_ranks
):
    """Its bfloat16 iteration doubles what rounding does: 1e-3 of a gradient norm."""
    shared = {**SHARED, "optimizer": "muon"}
    main(flags(tmp_path / "one", **shared))
    halves = flags(tmp_path / "two", **shared, **PHASES[phase], max_iters=6, lr_decay_iters=12)
    assert train_in_ranks(2, halves) == [0, 0]

    assert main(flags(tmp_path / "two", **shared, init_from="resume")) == 0

    run = only_run(tmp_path / "two")
    assert_same_losses(run, only_run(tmp_path / "one"), tolerance=2e-3)
    assert run.training_iterations[-1]["loss"] < run.training_iterations[0]["loss"] - 0.3


def test_fsdp_in_bfloat16_tracks_float32(straight, flags, tmp_path, only_run, train_in_ranks):
    argv = flags(tmp_path, **SHARED, use_fsdp=True, dtype="bfloat16")

    assert train_in_ranks(2, argv) == [0, 0]

    run = only_run(tmp_path)
    assert run.metadata["dtype"] == "bfloat16"
    last, other = run.training_iterations[-1], only_run(straight).training_iterations[-1]
    assert last["loss"] == pytest.approx(other["loss"], abs=0.02)
    assert last["loss"] != other["loss"]


def test_what_cannot_go_together_is_refused_in_a_line(flags, tmp_path, capfd, train_in_ranks):
    with pytest.raises(ValueError, match="--use_zero1=True and --use_fsdp=True: choose one"):
        TrainConfig(use_zero1=True, use_fsdp=True)
    with pytest.raises(ValueError, match="--fsdp_replicas=2 needs --use_fsdp=True"):
        TrainConfig(fsdp_replicas=2)

    argv = flags(tmp_path, use_fsdp=True, fsdp_replicas=3)
    assert train_in_ranks(2, argv) == [1, 1]

    refusals = [line for line in capfd.readouterr().err.splitlines() if "fsdp_replicas" in line]
    assert refusals == [
        "train.py: --fsdp_replicas=3: 2 ranks do not divide into that many groups; give the "
        "number of nodes"
    ]


def test_the_parts_of_a_division_are_about_equal_and_hold_each_name_once():
    sizes = {f"p{i}": (i * 7919) % 1000 + 1 for i in range(100)}

    part_of = divide(sizes, 7)

    loads = [sum(size for name, size in sizes.items() if part_of[name] == r) for r in range(7)]
    assert list(part_of) == list(sizes)
    assert max(loads) - min(loads) <= max(sizes.values())


def test_a_phase_is_the_plain_thing_without_ranks(straight, flags, tmp_path, only_run):
    """No process group is needed for one process, whatever the flags say."""
    assert "WORLD_SIZE" not in os.environ
    assert main(flags(tmp_path, **SHARED, use_fsdp=True)) == 0

    assert not torch.distributed.is_initialized()
    assert_same_losses(only_run(tmp_path), only_run(straight), tolerance=0)


def test_without_a_gpu_use_triton_says_so_in_a_line_and_trains_the_same(
    straight, flags, tmp_path, only_run, capsys
):
    assert main(flags(tmp_path, **SHARED, use_triton=True)) == 0

    said = [line for line in capsys.readouterr().out.splitlines() if "--use_triton" in line]
    assert len(said) == 1
    assert said[0].endswith("; going on without")
    run = only_run(tmp_path)
    assert run.metadata["use_triton"] is False
    assert run.config["use_triton"] is True
    assert_same_losses(run, only_run(straight), tolerance=0)
