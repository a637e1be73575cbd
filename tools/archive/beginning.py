"""How an archive begins: in an empty place, or anew around the bundles that are there."""

import contextlib
from dataclasses import replace

from ..core.runs import Refusal
from . import manifest
from .manifest import Manifest
from .store import Damaged, Store

README = b"""An archive of training runs, made by `runs archive` (runjournal).

journals/*/*.tar.zst   the files of each run, byte for byte:  tar --zstd -xf FILE
runs/*.parquet         one row a run: figures, config (JSON), its bundle, the SHA-256 of each file
iterations/, evals/, checkpoints/
                       Parquet, by the month in which a run began, sorted by run and iteration

manifest.json names every file that is in the archive, with its SHA-256. Files that it does
not name were left by an interrupted `runs archive`; the next one goes on from them.

    duckdb -c "select run, min(val_loss) from 'evals/*/*.parquet' group by run order by 2"
    runs query "select run, best_val_loss from runs order by best_val_loss" HERE
    runs archive --to HERE --verify
    runs archive --to HERE --restore RUN --out FOLDER
    runs archive --to HERE --repair           all but journals/ made anew, from journals/
"""


def begin(store: Store) -> Manifest:
    """An empty archive in a place where there is nothing else.

    Raises:
        Refusal: there is something else.
    """
    names = store.names()
    there = [name for name in names if not manifest.is_ours(name)]
    if any(map(manifest.is_bundle, names)):
        raise Refusal(
            f"{store.url}: an archive without its {manifest.NAME}. To make it anew from the "
            f"bundles: runs archive --to {store.url} --repair"
        )
    if there:
        raise Refusal(
            f"{store.url}: no archive, and not empty: it has {there[0]}. Give a folder that is "
            f"empty or does not exist yet"
        )
    return manifest.switch(store, None, Manifest())


def explain(store: Store, told: Manifest) -> Manifest:
    """The archive with its README.txt."""
    if told.readme is not None:
        return told
    readme = store.write("README.txt", lambda file: file.write(README))
    return manifest.switch(store, told, replace(told, readme=readme))


def forget(store: Store) -> Manifest:
    """An empty archive around the bundles that are there, whatever the manifest was."""
    generation = 0
    with contextlib.suppress(Damaged):
        old = manifest.load(store)
        generation = old.generation + 1 if old else 0
    new = Manifest(generation)
    store.write(manifest.NAME, lambda file: file.write(new.to_bytes()))
    return new
