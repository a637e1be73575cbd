"""Small commands of `runs`, one per file.

`ls` (and `best`), `show`, `diff`, `compare`, `note` (and `tag`), `ranks`. Larger ones have
packages of their own.
"""
