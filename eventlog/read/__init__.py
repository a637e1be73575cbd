"""Journals -> verified records, whatever is damaged, missing or in another order.

Begin with `reader`: a journal and its segments as one sequence of records. `scanner` finds records
in bytes and names each of the `defects`; `batch` is its fast path for many records at once, which
only this package and `fold` know; `sequence` checks the numbers. `segments` (with `candidates`)
finds the segments of a run and the journals of its ranks, `order` says when each session is read.
`ends` reads the first and last events, `identify` says whether a file is a journal at all,
`evidence` what is missing without a trace, `alive` whether somebody writes.
"""
