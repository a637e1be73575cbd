"""What runs are imported from, a format a file.

A source's `read(path)` gives `Telling`s: what the system's own files say, as events in the
order in which they are to be logged, and what was left out. Nothing here writes.
"""
