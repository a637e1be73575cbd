"""Credentials become `***` before anything is written.

Begin with `masking`: what is masked in events, command lines and texts. `names` decides by what
a value is called, `rules` by what it looks like, `text` finds named values within texts.
Imported only by who writes: the patterns take 10 ms.
"""
