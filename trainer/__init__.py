"""A nanoGPT-class trainer whose runs can be believed, killed and continued.

`train.py` is the story; read it first. Every other file is one noun that it puts to use.
"""
