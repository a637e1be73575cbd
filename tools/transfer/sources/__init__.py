"""The formats that runs are imported from, one module each.

`read(path, loss_names)` yields a `SourceRun` for each run in the files: the events in the order in
which they are to be logged, and what was left out. Nothing here writes.
"""
