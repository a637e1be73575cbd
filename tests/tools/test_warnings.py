"""All that show a run report with the same words what of it is not in its files."""

import asyncio

import pytest

from tests.tools.conftest import unstamped
from tests.tools.terminal.test_watch import foot, seen, until, watching
from tools.cli import main


@pytest.mark.parametrize("name", ["lost", "unknown", "cut", "orphan", "forked", "whole"])
def test_ls_and_show_say_it_beside_the_status(incomplete, capsys, name):
    folder, warnings = incomplete

    assert main(["ls", str(folder)]) == 0
    (listed,) = [row for row in capsys.readouterr().out.splitlines() if row.startswith(name)]
    assert main(["show", str(folder / name)]) == 0
    (status,) = [row for row in capsys.readouterr().out.splitlines() if row.startswith("status")]

    expected = ", ".join(["interrupted" if name == "cut" else "completed", *warnings[name]])
    assert f"  {expected}  " in listed
    assert f"  {expected}:" in f"{status}:"


def test_the_terminal_marks_it_and_says_it_of_the_run_at_the_cursor(incomplete):
    folder, warnings = incomplete

    async def story(size):
        async with watching(folder, size) as (app, pilot):
            await until(pilot, lambda: len(app.listing.rows) == len(warnings))
            lists, states = {}, {}
            for at, row in enumerate(app.listing.rows):
                await pilot.press("home", *["down"] * at)
                name = unstamped(row["run"])
                lists[name] = seen(app)[1 + at]
                states[name] = foot(app)[1]
            return lists, states

    lists, states = asyncio.run(story((80, 24)))
    wide, _ = asyncio.run(story((220, 40)))

    for name, texts in warnings.items():
        assert states[name].startswith(", ".join(texts))
        assert (" ! " in lists[name]) == (name in ("unknown", "orphan", "forked"))
        assert name == "unknown" or ", ".join(texts) in wide[name]
