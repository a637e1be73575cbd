"""The command `eventlog`: begin with `main`, which has its arguments.

`commands` is what each subcommand does, `journals` which files its arguments mean. `report` is what
`verify` prints, `run_status` what `status` does, `tail` what `tail` does.
"""
