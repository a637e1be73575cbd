"""What all commands share.

Begin with `runs`, which finds and loads runs by name. `rows` has a run as one row of fields,
`where` filters rows, `history` has a run as tables, `freeform` finds the loss among a run's own
metrics. For charts: `axis`, `smoothing`; for text: `formats` (numbers, sizes, durations, times) and
`table` (all printing); for flags: `options`; for `files`: locks, SHA-256; for optional libraries:
`library`.
"""
