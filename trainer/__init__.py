"""A nanoGPT-class trainer whose runs can be believed, killed and continued.

`train.py` is the story; read it first. `setup.py` puts a run together from the packages `model`,
`optim`, `data`, `distributed` and `checkpoint`; `training_logger.py` is the bridge to the journal.
"""
