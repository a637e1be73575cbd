"""Creating an archive: in an empty folder, or again around the bundles of a damaged one."""

import contextlib
from dataclasses import replace

from ..core.runs import Refusal
from . import manifest
from .manifest import Manifest
from .store import Damaged, Store

README = b"""An archive of training runs, made by `runs archive` (runjournal).

journals/*/*.tar.zst   the files of each run, byte for byte:  tar --zstd -xf FILE
runs/*.parquet         one row per run: summary, config (JSON), its bundle, SHA-256 of each file
iterations/, evals/, checkpoints/, metrics/, system/
                       Parquet, by the month in which a run began, sorted by run and step
series/                every value of them in a row of its own: run, step, name, value, text, time

manifest.json names every file of the archive, with its SHA-256. Files that it does not
name were left by an interrupted `runs archive`; the next one continues from them.

    duckdb -c "select run, min(val_loss) from 'evals/*/*.parquet' group by run order by 2"
    runs query "select run, best_val_loss from runs order by best_val_loss" HERE
    runs archive --to HERE --verify
    runs archive --to HERE --restore RUN --out FOLDER
    runs archive --to HERE --repair           rebuild all but journals/ from journals/
"""


def create(store: Store) -> Manifest:
    """A new archive in a folder or bucket that holds nothing else.

    Raises:
        Refusal: it holds something else.
    """
    names = store.names()
    foreign = [name for name in names if not manifest.is_ours(name)]
    if any(map(manifest.is_bundle, names)):
        raise Refusal(
            f"{store.url}: {manifest.NAME} is missing. To rebuild it from the "
            f"bundles: runs archive --to {store.url} --repair"
        )
    if foreign:
        raise Refusal(
            f"{store.url}: not an archive, and not empty: it has {foreign[0]}. Give a folder that "
            f"is empty or does not exist"
        )
    return manifest.switch(store, None, Manifest())


def add_readme(store: Store, contents: Manifest) -> Manifest:
    """The archive with a README.txt, which is written if it has none."""
    if contents.readme is not None:
        return contents
    readme = store.write("README.txt", lambda file: file.write(README))
    return manifest.switch(store, contents, replace(contents, readme=readme))


def reset(store: Store) -> Manifest:
    """An archive without runs beside the bundles that exist, whatever the manifest was."""
    generation = 0
    with contextlib.suppress(Damaged):
        old = manifest.load(store)
        generation = old.generation + 1 if old else 0
    new = Manifest(generation)
    store.write(manifest.NAME, lambda file: file.write(new.to_bytes()))
    return new
