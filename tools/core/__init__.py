"""What all commands share.

Begin with `runs`, which finds and loads runs by name. `rows` has a run as one row of fields,
`series` has any series by what a person writes, `where` filters rows, `history` has a run as
tables, `seeds` runs that differ in the seed alone as one, `beside` the other files of runs. For
charts: `axis`, `smoothing`; for text: `formats` (numbers, sizes, durations, times) and `table` (all
printing); for flags: `options`; for locks: `locks`; for optional libraries: `library`.
"""
