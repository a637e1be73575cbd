"""Text -> tokens -> batches.

`dataset` reads batches, each a function of seed, iteration and row. Before that: `corpus`
(which text), `hub` (data sets by name), `tokenizer`, `pieces` and `shards` (tokens on disk, in
parallel). The command that prepares data is `trainer/prepare.py`.
"""
