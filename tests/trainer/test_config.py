"""Flags: the guide's spellings work, and a mistake is one line that knows better."""

import dataclasses

import pytest

from trainer.config import PRESETS, TrainConfig
from trainer.flags import parse


def read(*argv):
    return parse(TrainConfig, argv, prog="train.py", description="", presets=PRESETS)


def refusal(capsys, *argv):
    """What the mistake is answered with; it must be one line, and status 2."""
    with pytest.raises(SystemExit) as ended:
        read(*argv)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    return err


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


def test_a_preset_sets_defaults_and_a_flag_overrides_them():
    config = read("--n_layer=3", "--preset=small")

    assert (config.n_layer, config.n_embd, config.preset) == (3, 384, "small")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid(name):
    assert read(f"--preset={name}").preset == name


def test_an_unknown_flag_suggests_the_nearest_one(capsys):
    assert "unknown flag: --bacth_size. Did you mean --batch_size?" in refusal(
        capsys, "--bacth_size=4"
    )


def test_a_wrong_value_says_which_values_are_valid(capsys):
    assert "--batch_size=four: must be a whole number" in refusal(capsys, "--batch_size=four")
    assert "--compile=yes: must be True or False" in refusal(capsys, "--compile=yes")


def test_a_wrong_choice_lists_the_choices_and_suggests_the_nearest(capsys):
    answer = refusal(capsys, "--dtype=bf16")

    assert "one of auto, float32, bfloat16, float16. Did you mean bfloat16?" in answer


def test_a_flag_without_a_value_is_an_error(capsys):
    assert "--compile has no value: expected True or False" in refusal(capsys, "--compile")


def test_an_argument_that_is_not_a_flag_is_an_error(capsys):
    assert "unexpected argument 'resume'" in refusal(capsys, "resume")


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--n_embd=130"], "--n_embd=130 must be a multiple of --n_head=4"),
        (["--dropout=1"], "--dropout=1.0: must be at least 0 and below 1"),
        (["--embedding_lr=0"], "--embedding_lr=0.0: must be positive"),
        (["--muon_momentum=1"], "--muon_momentum=1.0: must be at least 0 and below 1"),
        (["--batch_size=0"], "--batch_size=0: must be positive"),
        (["--learning_rate=nan"], "--learning_rate=nan: must be positive"),
        (["--max_iters=-1"], "--max_iters=-1: must not be negative"),
        (["--lr_decay_iters=10"], "--lr_decay_iters=10 must not be below --warmup_iters=20"),
    ],
)
def test_contradicting_flags_are_an_error_that_names_them(capsys, argv, named):
    assert named in refusal(capsys, *argv)


def test_only_rank_0_prints_an_error(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit):
        read("--bacth_size=4")

    assert capsys.readouterr().err == ""


def test_help_lists_every_flag_in_its_group_with_its_default(capsys):
    with pytest.raises(SystemExit) as ended:
        read("--help", "--preset=small")

    help = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(f"--{field.name} " in help for field in dataclasses.fields(TrainConfig))
    assert "optimizer options" in help
    assert "(default: 384)" in help


def test_a_run_may_be_shorter_than_its_warm_up():
    assert read("--max_iters=10").warmup_iters == 20


def test_the_log_has_the_values_that_none_stands_for():
    told = TrainConfig(max_iters=300, learning_rate=1e-3).as_dict()

    assert told["lr_decay_iters"] == 300
    assert told["min_lr"] == 1e-4
    assert told["embedding_lr"] == 1e-3


def test_flags_and_defaults_do_not_change():
    """Renaming or dropping a flag, or another default, is a decision: make it here too."""
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
