"""Runs as pictures: the command is `plot`, the numbers come from `series`."""
