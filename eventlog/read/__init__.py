"""Journals -> verified records, whatever is damaged, missing or in another order.

Begin with `reader`: a journal and its segments as one sequence of records. `scanner` finds
records in bytes and names each defect, `batch` is its fast path for many records at once,
`sequence` checks the numbers. `candidates` and `order` say whose segments are whose and in
which order sessions come, `ends` reads the first and last events, `identify` whether a file is
a journal at all, `evidence` what is missing without a trace, `alive` whether somebody writes,
`ranks` finds the journals of other ranks.
"""
