"""What all commands share.

Begin with `runs`: names -> runs. `rows` has a run as one row (`ls`, `--where`), `names` what
its figures are called, `history` a run as tables, `freeform` which of its own metrics is the
loss. `table` and `text` print, `options` reads numbers in flags, `library` imports optional
libraries.
"""
