"""The benchmark of the archive runs, and checks what it measures."""

import pytest

from tests.bench import archive


@pytest.mark.slow
def test_the_benchmark_of_the_archive_runs(tmp_path):
    """pytest -m slow tests/bench/test_archive.py; to measure: python -m tests.bench.archive"""
    rows = list(archive.measure(tmp_path, 4, 120))

    assert len(rows) == 12
    assert rows[-1].startswith("JSONL ")
