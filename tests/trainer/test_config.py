"""Flags: parsing, presets, and the messages about wrong ones."""

import dataclasses

import pytest

from trainer.config import PRESETS, TrainConfig
from trainer.flags import parse


def read(*argv):
    return parse(TrainConfig, argv, prog="train.py", description="", presets=PRESETS)


def error_of(capsys, *argv):
    """The message on stderr, without tyro's frame; the exit status must be 2."""
    with pytest.raises(SystemExit) as exit:
        read(*argv)
    assert exit.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    return " ".join(err.replace("│", " ").split())


def test_the_guides_command_line_works():
    config = read(
        "--save_log_to_json=False", "--wandb_run_name=my_experiment", "--log_save_interval=50",
        "--wandb_log=True",
    )  # fmt: skip

    assert config.save_log_to_json is False
    assert config.wandb_run_name == "my_experiment"
    assert config.log_save_interval == 50
    assert config.wandb_log is True


def test_a_value_may_follow_a_space():
    assert read("--learning_rate", "1e-4", "--n_layer", "2").learning_rate == 1e-4


@pytest.mark.parametrize(
    "argv", [("--n_layer=3", "--preset=small"), ("--preset", "small", "--n-layer", "3")]
)
def test_a_preset_sets_defaults_and_a_flag_overrides_them(argv):
    config = read(*argv)

    assert (config.n_layer, config.n_embd, config.preset) == (3, 384, "small")


def test_explicit_flags_are_those_of_the_command_line_and_of_its_preset():
    assert read("--n-layer", "3", "--seed=1").explicit == {"n_layer", "seed"}
    assert read("--preset=small").explicit == {"preset", *PRESETS["small"]}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid(name):
    assert read(f"--preset={name}").preset == name


def test_an_unknown_flag_suggests_the_nearest_one(capsys):
    error = error_of(capsys, "--bacth_size=4")

    assert "Unrecognized options: --bacth_size=4" in error
    assert "Perhaps you meant: --batch_size" in error


def test_a_wrong_value_names_the_flag(capsys):
    assert "--batch_size: invalid literal for int()" in error_of(capsys, "--batch_size=four")


@pytest.mark.parametrize(
    ("argument", "choices"),
    [("--dtype=bf16", "'bfloat16'"), ("--compile=yes", "'True'"), ("--preset=smal", "'small'")],
)
def test_a_wrong_choice_lists_the_choices(argument, choices, capsys):
    error = error_of(capsys, argument)

    assert f"argument '{argument.partition('=')[0]}'" in error
    assert choices in error


@pytest.mark.parametrize("argument", ["--compile", "--preset"])
def test_a_flag_without_a_value_is_an_error(argument, capsys):
    assert f"Missing value for argument '{argument}'" in error_of(capsys, argument)


def test_an_argument_that_is_not_a_flag_is_an_error(capsys):
    assert "Unrecognized options: resume" in error_of(capsys, "resume")


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--n_embd=130"], "--n_embd=130 must be a multiple of --n_head=4"),
        (["--dropout=1"], "--dropout=1.0: must be >= 0 and < 1"),
        (["--embedding_lr=0"], "--embedding_lr=0.0: must be positive"),
        (["--muon_momentum=1"], "--muon_momentum=1.0: must be >= 0 and < 1"),
        (["--batch_size=0"], "--batch_size=0: must be positive"),
        (["--learning_rate=nan"], "--learning_rate=nan: must be positive"),
        (["--max_iters=-1"], "--max_iters=-1: must be >= 0"),
        (["--lr_decay_iters=10"], "--lr_decay_iters=10 must not be below --warmup_iters=20"),
    ],
)
def test_contradicting_flags_are_an_error_that_names_them(capsys, argv, named):
    assert named in error_of(capsys, *argv)


def test_only_rank_0_prints_an_error(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit):
        read("--bacth_size=4")

    assert capsys.readouterr().err == ""


def test_help_lists_every_flag_in_its_group_with_its_default(capsys):
    with pytest.raises(SystemExit) as exit:
        read("--help", "--preset=small")

    help = capsys.readouterr().out
    assert exit.value.code == 0
    assert all(f"--{field.name} " in help for field in dataclasses.fields(TrainConfig))
    assert "optimizer options" in help
    assert "(default: 384)" in help


def test_a_run_may_be_shorter_than_its_warm_up():
    assert read("--max_iters=10").warmup_iters == 20


def test_the_log_has_the_values_that_none_stands_for():
    logged = TrainConfig(max_iters=300, learning_rate=1e-3).as_dict()

    assert logged["lr_decay_iters"] == 300
    assert logged["min_lr"] == 1e-4
    assert logged["embedding_lr"] == 1e-3


def test_flags_and_defaults_do_not_change():
    """Users depend on names and defaults: a change of one must be made here as well."""
    assert {f.name: f.default for f in dataclasses.fields(TrainConfig)} == {
        "preset": "tiny", "init_from": "scratch", "max_iters": 500, "eval_interval": 100,
        "eval_iters": 20, "eval_only": False, "always_save_checkpoint": True, "seed": 1337,
        "out_dir": "out", "log_interval": 10, "save_log_to_json": True, "log_save_interval": 100,
        "log_iterations": True, "log_ranks": False, "log_system": False, "wandb_log": False,
        "wandb_project": "owt", "wandb_run_name": None, "input": None, "text_column": "text",
        "tokenizer": "bpe:4096",
        "data_dir": "data", "gradient_accumulation_steps": 2, "batch_size": 8, "block_size": 64,
        "n_layer": 4, "n_head": 4, "n_embd": 128, "dropout": 0.0, "bias": False,
        "learning_rate": 3e-3, "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.95,
        "embedding_lr": None, "muon_momentum": 0.95,
        "grad_clip": 1.0, "decay_lr": True, "warmup_iters": 20, "lr_decay_iters": None,
        "min_lr": None, "device": "auto", "dtype": "auto", "compile": False, "backend": "auto",
        "peak_flops": None, "nonfinite": "stop", "checkpoint_format": "full",
        "keep_checkpoints": 1, "async_checkpoint": True, "optimizer": "adamw",
        "lr_schedule": "cosine", "cooldown_iters": None, "use_zero1": False, "use_fsdp": False,
        "fsdp_stage": "zero3", "fsdp_replicas": 1, "activation_checkpointing": False,
        "use_triton": False, "resume_from": None, "wandb_required": True,
    }  # fmt: skip
