"""Where runs are exported to, a target a file; `place` is what those with files share.

A target's `export(history, out)` makes what it holds of a run equal to the run's one curve,
whatever it held before: nothing, a part after a crash, or points that a later take replaced.
What is there already is asked of the target itself; there is no record of exports beside it
that could say something else. It returns an `Outcome`.
"""
