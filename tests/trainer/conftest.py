"""Runs that are small enough for a test: one block of 16 channels, twenty short texts."""

import multiprocessing
import os
import random
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo  # an optimizer imports it: once here, not once in each rank that is forked

import eventlog
from trainer.train import main

# One thread in this process: ranks are forked from it, and a fork copies no thread pool.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twenty text files, 40 kB in all."""
    folder = tmp_path_factory.mktemp("books")
    words = ["the", "of", "and", "to", "in", "that", "was", "his", "with", "they"]
    chance = random.Random(0)
    for number in range(20):
        text = " ".join(chance.choices(words, weights=range(10, 0, -1), k=500))
        (folder / f"book{number:02}.txt").write_text(text)
    return folder


@pytest.fixture(scope="session")
def flags(books: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """`flags(out_dir, max_iters=3, ...)`: the command line of a very small run."""
    data_dir = tmp_path_factory.mktemp("data")

    def command_line(out_dir: Path, **overrides: object) -> list[str]:
        values: dict[str, object] = {
            "out_dir": out_dir, "data_dir": data_dir, "input": books, "tokenizer": "bytes",
            "n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16, "batch_size": 4,
            "gradient_accumulation_steps": 2, "dropout": 0.1, "max_iters": 12, "eval_interval": 6,
            "eval_iters": 3, "warmup_iters": 2, "device": "cpu", "peak_flops": 1e12,
        }  # fmt: skip
        return [f"--{name}={value}" for name, value in (values | overrides).items()]

    return command_line


@pytest.fixture
def only_run() -> Callable[[Path], Any]:
    """The only run in a folder, loaded from its run JSON."""

    def load(out_dir: Path) -> Any:
        (path,) = out_dir.glob("*.json")
        return eventlog.load_run(path)

    return load


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], str]:
    """`refusal(argv)`: the one line on stderr with which a command line is refused."""

    def message(argv: list[str]) -> str:
        capsys.readouterr()
        assert main(argv) == 1
        err = capsys.readouterr().err
        assert err.startswith("train.py: ")
        assert err.count("\n") == 1
        return err

    return message


@pytest.fixture(scope="session")
def losses() -> Callable[[Any], list[tuple[Any, ...]]]:
    """`losses(run)`: the values that must be equal, bit for bit, in two equal runs."""

    def values(run: Any) -> list[tuple[Any, ...]]:
        rows = run.training_iterations
        return [(row["iter"], row["loss"], row["grad_norm"], row["lr"]) for row in rows]

    return values


def train_as_rank(
    rank: int, world_size: int, port: int, argv: list[str], prepare_rank: Callable[[int], None]
) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
    prepare_rank(rank)
    sys.exit(main(argv))


@pytest.fixture(scope="session")
def train_in_ranks() -> Callable[..., list[int | None]]:
    """`train_in_ranks(2, argv)`: the exit statuses of that many real ranks over gloo.

    `prepare_rank(rank)` runs in each before it trains, to inject a fault.
    """

    def run(
        world_size: int, argv: list[str], prepare_rank: Callable[[int], None] = lambda rank: None
    ) -> list[int | None]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = multiprocessing.get_context("fork")
        ranks = [
            context.Process(target=train_as_rank, args=(r, world_size, port, argv, prepare_rank))
            for r in range(world_size)
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(60)
        stuck = [process for process in ranks if process.is_alive()]
        for process in stuck:
            process.kill()
        assert not stuck, "a rank hangs"
        return [process.exitcode for process in ranks]

    return run
