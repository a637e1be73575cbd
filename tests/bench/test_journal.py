"""The benchmark runs, and checks what it measures."""

from tests.bench import journal


def test_the_benchmark_of_calls_and_recovery_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "CHECKPOINT_BYTES", 1 << 16)
    for name in ("calls", "recovery"):
        (tmp_path / name).mkdir()

    assert "p99.9" in journal.calls_beside_a_checkpoint(tmp_path / "calls", 0.2)
    assert "recovery of 500 events" in journal.recovery(tmp_path / "recovery", 500)
