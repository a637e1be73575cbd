"""The benchmark runs, and checks what it measures."""

from tests.bench import prepare


def test_the_benchmark_of_preparing_runs(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for number in range(12):
        (source / f"{number}.txt").write_text(f"def f(): return {number}\n" * 40)

    paces = prepare.pace(tmp_path, source, n_runs=1)

    assert "prepare, 2 threads" in prepare.as_lines(paces)
    assert "1 MB of JSONL: peak" in prepare.peak(tmp_path, 1)
