"""Credentials become `***` before anything is written.

Begin with `masking`: events, command lines and texts. `names` decides by a value's name, `rules`
by what it looks like, `text` finds named values in texts; `formats` lists the tokens of services.
Only writers import this: compiling the patterns takes 20 ms.
"""
