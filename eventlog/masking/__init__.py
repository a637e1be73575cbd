"""Credentials become `***` before anything is written.

Begin with `masking`: events, command lines and texts. `names` decides by a value's name, `rules`
by what it looks like, `formats` lists the tokens of services, `text` finds named values in texts. Only writers import this: compiling
the patterns takes 10 ms.
"""
