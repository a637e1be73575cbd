"""The targets that runs are exported to, one module each; `files` is shared by those with files.

`export(history, out)` makes what the target has of a run equal to the run, whatever it had before:
nothing, a part after a crash, or superseded points. The target itself is asked what it has; there
is no separate record of exports that could disagree. It returns an `Outcome`.
"""
