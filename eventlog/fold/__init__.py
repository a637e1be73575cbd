"""Records -> the run, and the run JSON.

Begin with `fold`: a pure function of the records, by the rule that each kind of event names in
`format/events`. `tables` and `metrics` hold what it keeps, `summary` computes the summary,
`document` is the run and its JSON; of that, `series` has each column by name, `losses` which one is
the loss, `flat_rows` its tables for data frames. `load` reads a run from a journal or run JSON
(`load_run`, `compare_runs`); `compaction` writes the run JSON, once or following a live writer, and
`compactor` is the process that does so beside a training.
"""
