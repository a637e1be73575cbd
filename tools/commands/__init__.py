"""Small commands of `runs`, one per file.

`ls` (and `best`), `show`, `diff`, `compare`, `note` (and `tag`), `ranks`; `agreement` and
`compare_series` are parts of `compare`. Larger ones have packages of their own.
"""
