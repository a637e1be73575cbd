"""A folder and its subfolders, each once."""

import os

from eventlog.read import subfolders
from eventlog.read.subfolders import Walk


def test_each_folder_is_listed_once_by_its_own_path_whatever_links_lead_to_it(tmp_path):
    (tmp_path / "b/c").mkdir(parents=True)
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b/c/up").symlink_to(tmp_path)
    (tmp_path / "gone").symlink_to("nowhere")

    walk = Walk()
    listed = [os.path.relpath(listing.path, tmp_path) for listing in walk.below(tmp_path)]
    again = list(walk.below(tmp_path / "a"))

    assert listed == [".", "b", "b/c"]
    assert again == []
    assert walk.left_out == []


def test_a_search_ends_after_so_many_files_too(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    for n in range(5):
        (tmp_path / "images" / f"{n}.png").touch()
    (tmp_path / "runs").mkdir()
    monkeypatch.setattr(subfolders, "ENTRIES_MAX", 5)

    walk = Walk()
    listed = [os.path.basename(listing.path) for listing in walk.below(tmp_path)]

    assert listed == [tmp_path.name, "images"]
    assert walk.left_out == [
        f"{tmp_path}: the search for runs ended after 2 folders with 5 files, before "
        f"{tmp_path}/runs. Name the folders of the runs themselves"
    ]
