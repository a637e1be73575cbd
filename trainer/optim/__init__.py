"""How weights change.

Begin with `optimizer`: AdamW with decay groups, Muon where asked for, loss scaling. `muon` is
the latter, `schedule` the learning rate of each iteration.
"""
