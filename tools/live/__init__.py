"""Runs as they grow, for the terminal, the page and the guard.

Begin with `following`: one journal, read as it grows; what was read is in `content`. `folders` has
all runs of some folders, `curves` and `pyramid` their points at any zoom, `groups` those of
metrics. `summaries` has the latest and the extreme values of each series, `usual` which ones are
shown first. `means` makes one curve of several runs.
"""
