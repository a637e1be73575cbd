"""Text -> tokens -> batches.

`dataset` reads batches: start there. The others prepare data: `corpus` (files of text), `hub`
(data sets by name), `tokenizer`, `pieces` (documents in pieces) and `shards` (tokens on disk).
The command is `trainer/prepare.py`.
"""
