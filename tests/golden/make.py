"""Makes the golden files again, in another folder. The committed ones are never replaced."""

import json
import math
import os
import sys
from pathlib import Path

import eventlog
from eventlog.write.journal import Journal

CONFIG = {"learning_rate": 6e-4, "max_iters": 9, "batch_size": 12, "n_layer": 2}
OPENING = {
    "format": 1,
    "run_id": "00112233445566778899aabbccddeeff",
    "run_name": "format_1",
    "host": "node7",
    "pid": 4711,
    "boot_id": "b00t",
    "config": CONFIG,
    "metadata": {"world_size": 1, "device": "cpu", "dtype": "bfloat16"},
}
RESUMED = OPENING | {"checkpoint": "out/ckpt.pt", "config": CONFIG | {"learning_rate": 3e-4}}


def first_session(path: Path) -> None:
    journal = Journal(path, OPENING)
    journal.append("eval", {"iter": 0, "train_loss": 11.004, "val_loss": 10.9977, "lr": 6e-4})
    for i in range(4):
        journal.append("iter", iteration(i, 11.0 - i))
    journal.append("eval", {"iter": 4, "train_loss": 7.5, "val_loss": 7.6, "lr": 6e-4})
    journal.append("checkpoint", checkpoint(4, 7.6))
    journal.append("iter", iteration(4, math.nan))
    journal.append("nonfinite", {"iter": 4, "what": "loss", "value": math.nan})
    journal.append("rewind", {"to_iter": 4})
    journal.append("iter", iteration(4, 7.25))
    journal.append("iter", iteration(5, 6.5))
    journal.append("note", {"text": "ünï 🙂", "file": {"size": 1, "crc": "01234567"}})
    journal.append("iter", iteration(6, 6.25))


def second_session(path: Path) -> None:
    journal = Journal(path, RESUMED | {"from_iter": 4})
    journal.append("iter", iteration(4, 7.125))
    journal.append("iter", iteration(5, 6.75))
    journal.append("io_error", {"call": "fdatasync", "error": "[Errno 5]", "durable_records": 2})
    journal.append("gap", {"dropped": 3, "why": "the disk refused for too long"})
    journal.append("signal", {"signal": "SIGTERM"})


def third_session(path: Path) -> None:
    journal = Journal(path, RESUMED | {"from_iter": 5})
    for i in range(5, 10):
        journal.append("iter", iteration(i, math.nan if i == 6 else 11.0 - i))
    journal.append("eval", {"iter": 9, "train_loss": 2.5, "val_loss": 2.625, "lr": 0.0})
    journal.append("checkpoint", checkpoint(9, 2.625))
    journal.append("error", {"error": "a teapot"})
    journal.close({"status": "failed", "reason": "a teapot"})


def make_journal(folder: Path) -> Path:
    """Three sessions by the real writer: killed in the middle of a line, killed, failed."""
    path = folder / "format_1.jsonl"
    for session in (first_session, second_session, third_session):
        child = os.fork()
        if child == 0:
            session(path)
            os._exit(0)  # what is open is closed by the kernel alone, as after a kill
        os.waitpid(child, 0)
        if session is first_session:
            os.truncate(path, path.stat().st_size - 37)
    *_, last = eventlog.scan(path)
    with open(path, "ab") as file:
        file.write(b'{"n":10,"s":"%s","t":"2026-11-23T03' % last.s.encode())
    return path


def iteration(i: int, loss: float) -> dict[str, object]:
    mfu = -100.0 if i < 2 else 30.0 + i
    return {"iter": i, "loss": loss, "time_ms": 50.0 + i, "mfu": mfu, "lr": 6e-4, "grad_norm": 1.5}


def checkpoint(i: int, val_loss: float) -> dict[str, object]:
    return {"iter": i, "val_loss": val_loss, "path": "out/ckpt.pt", "size_bytes": 124_439_808}


def guide_run() -> dict[str, object]:
    """The example of the training logging guide, with its real numbers."""
    iterations = [
        {"iter": 0, "loss": 11.0049, "time_ms": 19130.8, "mfu": -100.0},
        {"iter": 1, "loss": 10.9733, "time_ms": 3978.64, "mfu": -100.0},
        *(
            {"iter": i, "loss": 11.0 - 0.04 * i, "time_ms": 4000.0 + i, "mfu": 32.0 + i / 100}
            for i in range(2, 100)
        ),
        {"iter": 100, "loss": 6.9127, "time_ms": 4100.0, "mfu": 33.0},
    ]
    fields = {
        "run_name": "run_20231031_162345",
        "start_time": "2023-10-31T16:23:45.123456",
        "config": {
            "learning_rate": 0.0006,
            "batch_size": 12,
            "max_iters": 100,
            "n_layer": 12,
            "n_head": 12,
            "n_embd": 768,
        },
        "training_iterations": iterations,
        "eval_steps": [
            {"iter": i, "train_loss": t, "val_loss": v, "timestamp": s, "lr": 0.0006}
            for i, t, v, s in [
                (0, 11.004, 10.9977, "2023-10-31T16:24:01.000001"),
                (50, 8.358, 8.2892, "2023-10-31T16:33:12.000002"),
                (100, 7.2, 7.1189, "2023-10-31T16:45:10.000003"),
            ]
        ],
        "checkpoints": [
            {"iter": i, "val_loss": v, "path": "out/ckpt.pt", "timestamp": s}
            for i, v, s in [
                (50, 8.2892, "2023-10-31T16:33:13.000004"),
                (100, 7.1189, "2023-10-31T16:45:11.000005"),
            ]
        ],
        "metadata": {
            "world_size": 1,
            "device": "cuda",
            "dtype": "bfloat16",
            "compile": False,
            "use_zero1": False,
        },
    }
    times = [row["time_ms"] for row in iterations]
    mfus = [row["mfu"] for row in iterations if row["mfu"] > 0]
    ended = {
        "end_time": "2023-10-31T16:45:12.789012",
        "summary": {
            "total_iterations": 101,
            "final_iter": 100,
            "final_train_loss": 6.9127,
            "best_val_loss": 7.1189,
            "avg_time_ms": sum(times) / len(times),
            "avg_mfu": sum(mfus) / len(mfus),
            "total_eval_steps": 3,
            "total_checkpoints": 2,
        },
    }
    return fields | ended


def make_old_runs(folder: Path) -> None:
    """The example as each version of the guide's logger wrote it: `json.dump(indent=2)`."""
    run = guide_run()
    write(folder / "guide.json", run)
    write(
        folder / "guide_crashed.json",
        {k: v for k, v in run.items() if k not in ("end_time", "summary")},
    )
    later = run | {"training_iterations": [dict(row) for row in run["training_iterations"]]}
    for row in later["training_iterations"]:
        if row["mfu"] > 0:
            detail = {"mfu_percent": row["mfu"], "achieved_tflops": 102.5, "tokens_per_sec": 3510.0}
            row["mfu"] = detail
        row["memory"] = {"allocated_gb": 12.0}
        row["gradients"] = {"global_norm": 1.5}
    write(folder / "guide_mfu_object.json", {"startup_info": {"model": {"params": 124}}} | later)
    diverged = run | {"training_iterations": [dict(row) for row in run["training_iterations"]]}
    diverged["training_iterations"][100]["loss"] = math.nan
    diverged["training_iterations"][99]["loss"] = math.inf
    diverged["summary"] = run["summary"] | {"final_train_loss": math.nan}
    write(folder / "guide_nan.json", diverged)


def write(path: Path, run: dict[str, object]) -> None:
    with open(path, "w") as file:
        json.dump(run, file, indent=2)


if __name__ == "__main__":
    out = Path(sys.argv[1])
    eventlog.compact(make_journal(out))
    make_old_runs(out)
