"""A nanoGPT-class trainer whose runs can be killed and resumed exactly.

Begin with `train.py`. `setup.py` puts a run together from the packages `model`, `optim`, `data`,
`distributed` and `checkpoint`; `training_logger.py` writes the journal.
"""
