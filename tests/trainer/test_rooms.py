"""The comb: leaves do not know each other, and two of them know eventlog."""

from pathlib import Path

import pytest

from tests.test_architecture import imports

TRAINER = Path(__file__).parents[2] / "trainer"
ROOMS = {path.stem: path for path in TRAINER.glob("*.py") if path.stem != "__init__"}

# Who may know whom; a room that is not named here knows nobody.
KNOWS = {
    "train": set(ROOMS) - {"train", "sample"},
    "run": set(ROOMS) - {"train", "run", "sample", "farewell"},
    "farewell": {"run", "training_logger"},
    "beginning": {
        "checkpoint",
        "config",
        "ranks",
        "resume",
        "run_files",
        "training_logger",
        "wandb_login",
    },
    "resume": {"checkpoint", "run_files", "training_logger"},
    "run_files": {"checkpoint"},
    "checkpoint": {"shard_metadata"},
    "saver": {"checkpoint", "ranks", "run_files"},
    "parallel": {"ranks"},
    "ranks": {"rendezvous"},
    "sample": {
        "checkpoint",
        "console",
        "flags",
        "model",
        "ranks",
        "resume",
        "run_files",
        "tokenizer",
    },
    "prepare": {"console", "corpus", "flags", "hub", "pieces", "shards", "tokenizer"},
    "pieces": {"corpus"},
    "shards": {"pieces"},
    "config": {"flags"},
    "model": {"fused"},
    "optim": {"muon"},
    "fused": {"fused_kernels"},
}
BRIDGES = {"checkpoint", "resume", "training_logger"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_knows_only_whom_it_may(room):
    known = {name.split(".")[1] for name in imports(ROOMS[room]) if name.startswith("trainer.")}

    assert known <= KNOWS.get(room, set())


@pytest.mark.parametrize("room", ROOMS)
def test_only_the_bridges_know_eventlog_and_only_its_face(room):
    import eventlog

    known = {name.split(".")[1] for name in imports(ROOMS[room]) if name.startswith("eventlog.")}

    assert known <= (set(eventlog.__all__) if room in BRIDGES else set())
