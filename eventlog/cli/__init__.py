"""The command `eventlog`.

Begin with `main`: its subcommands. `report` is what `verify` and `status` print, `tail` what
`tail` does.
"""
