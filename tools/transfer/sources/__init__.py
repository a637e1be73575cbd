"""The formats that runs are imported from, one module each.

`source`, `reading` and `metrics` are shared.

`find(path)` lists the runs in a file or folder, none if it is of another format;
`read(source, loss_names)` reads one: the events in the order in which they are to be logged, and
what is left out. Nothing here writes.
"""
