"""The command `runs`: begin with `cli`, which lists its subcommands.

Each is in a package of its own or in `commands`; all find and read runs through `core.runs`.
"""
