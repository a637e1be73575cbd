"""Names for runs in a legend: the settings in which they differ, not the time in their names.

labels(rows)        # ["lr=0.001, depth=4", "lr=0.001, depth=8"] of `core.rows.row`
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import eventlog

from . import runs, seeds
from .rows import Row

SETTINGS_MAX = 3
"""Of more settings that differ, a label has those that keep most runs apart."""


def labels(rows: Sequence[Row]) -> list[str]:
    """A name for each run, all different where the runs differ in anything.

    They are the settings that differ, seeds only where these leave runs with equal names. A name
    that no other run has was chosen for the run and comes first.
    """
    settings = [seeds.settings_of(row) for row in rows]
    differing = different(settings)
    named = _named(settings, _most_telling(settings, differing))
    if len({*named}) < len(rows):
        of_seeds = [_seeds(row) for row in rows]
        both = [{**one, **more} for one, more in zip(settings, of_seeds, strict=True)]
        chosen = [*_most_telling(settings, differing), *different(of_seeds)[:1]]
        named = _named(both, chosen)
    own = [str(row["run"] or "") or "unnamed" for row in rows]
    bare = [runs.STAMP.sub("", name) for name in own]
    n_named, n_called = Counter(bare), Counter(named)
    labelled = []
    for label, name, short in zip(named, own, bare, strict=True):
        is_unique = bool(label) and n_called[label] == 1
        first = short if n_named[short] == 1 else "" if is_unique else name
        labelled.append(", ".join(filter(None, (first, label))))
    return _distinct(labelled, [str(row["path"] or "") for row in rows])


def _distinct(names: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Equal names with their folder, or a number if that is equal too."""
    shared = Counter(names)
    folders = [os.path.dirname(path) for path in paths]
    names = [
        f"{name} ({folder})" if shared[name] > 1 and folder else name
        for name, folder in zip(names, folders, strict=True)
    ]
    shared, seen = Counter(names), Counter[str]()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(f"{name} #{seen[name]}" if shared[name] > 1 else name)
    return unique


def different(settings: Sequence[dict[str, Any]]) -> list[str]:
    """The names of settings that are not equal in all runs, in the order of their configs."""
    names = dict.fromkeys(name for of_run in settings for name in of_run)
    return [n for n in names if len({seeds.key_of(of.get(n)) for of in settings}) > 1]


def _most_telling(settings: Sequence[dict[str, Any]], names: Sequence[str]) -> list[str]:
    """All names, or those that together keep most runs apart, in their order."""
    chosen: list[str] = []
    left = [*names]
    while left and len(chosen) < SETTINGS_MAX < len(names):
        best = max(left, key=lambda name: _n_different(settings, [*chosen, name]))
        if chosen and _n_different(settings, [*chosen, best]) == _n_different(settings, chosen):
            break
        chosen.append(best)
        left.remove(best)
    return [name for name in names if name in chosen] if chosen else [*names]


def _n_different(settings: Sequence[dict[str, Any]], names: Sequence[str]) -> int:
    return len({tuple(seeds.key_of(of.get(name)) for name in names) for of in settings})


def _named(settings: Sequence[dict[str, Any]], names: Sequence[str]) -> list[str]:
    """`lr=0.1, depth=4` for each run; settings that a run does not have are left out."""
    columns = [seeds.texts([of.get(name) for of in settings]) for name in names]
    bare = seeds.shortest(names)
    return [
        ", ".join(
            f"{short}={column[at]}"
            for short, name, column in zip(bare, names, columns, strict=True)
            if of.get(name) is not None
        )
        for at, of in enumerate(settings)
    ]


def _seeds(row: Row) -> dict[str, Any]:
    config = row.get("config")
    flat = eventlog.flatten(config) if isinstance(config, Mapping) else {}
    return {f"config.{name}": v for name, v in flat.items() if seeds.is_seed(name)}
