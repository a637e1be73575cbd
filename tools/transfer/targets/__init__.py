"""The targets that runs are exported to, one module each. `files` is shared by those with files,
`names` and `outcome` by all.

`export(history, out)` makes the target's copy of a run equal to the run, whatever it was before:
missing, a part after a crash, or with superseded points. What the target has is read from itself:
a separate record of exports could disagree. It returns an `Outcome`.
"""
