"""Credentials become `***` before anything is written.

Begin with `masking`: events and configs. `text` and `command` mask texts and command lines; `names`
decides by a value's name, `rules` by what it looks like; `formats` lists the tokens of services.
Only writers import this: compiling the patterns takes 20 ms.
"""
