"""The optimizer.

Start with `optimizer`: AdamW with weight decay groups, Muon, loss scaling for float16. `muon` has
Muon itself, `schedule` the learning rate of each iteration.
"""
