"""Two readers, one specification: eventlog, and one that was written from FORMAT.md alone."""

import ast
import os
import sys
from pathlib import Path

import pytest

from tests.durability import histories, second_reader

QUICK, GROWING, LONG = 600, 200, int(os.environ.get("HISTORIES", "100000"))
SHARDS = 4


def test_the_second_reader_shares_no_code_with_eventlog():
    tree = ast.parse(Path(second_reader.__file__).read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }

    assert imported == {"json", "re", "zlib", "pathlib"} <= set(sys.stdlib_module_names)


def test_two_readers_agree_on_random_histories():
    assert histories.run(QUICK, seed=1) == []


def test_two_readers_agree_on_the_histories_that_they_once_did_not_agree_on(tmp_path):
    """23.59221: `a` has `b` in it, and `a.b` is a name, so that a mark `a.b` may be of either."""
    assert histories.disagreements(tmp_path, "23.59221") == []


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_two_readers_agree_on_a_hundred_thousand_random_histories(shard):
    """HISTORIES in all, divided among the shards."""
    assert histories.run(LONG // SHARDS, seed=2 + shard) == []


def test_a_run_read_while_it_grows_equals_one_read_at_once(tmp_path):
    seeds = [f"3.{k}" for k in range(GROWING)]

    differing = {seed: histories.disagreements_while_it_grows(tmp_path, seed) for seed in seeds}

    assert {seed: keys for seed, keys in differing.items() if keys} == {}


def test_the_random_histories_contain_every_case(tmp_path):
    kinds = set()
    for k in range(200):
        first, _ = histories.both(tmp_path, f"1.{k}")
        names = [path.name for path in tmp_path.rglob("*.segment")]
        kinds |= {
            ("lost", bool(first and first["lost_events"])),
            ("sessions", bool(first and len(first["sessions"]) > 1)),
            ("superseded", bool(first and all(first["superseded"].values()))),
            ("segments", bool(names)),
            ("others", any(histories.OTHER_RUN_ID[:8] in name for name in names)),
            ("fallback", any((tmp_path / "fallback").glob("*"))),
        }

    assert {name for name, is_there in kinds if is_there} == {name for name, _ in kinds}
