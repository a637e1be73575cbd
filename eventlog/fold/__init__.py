"""Records -> the run, and the run JSON.

Begin with `fold`: a pure function of the records. `metrics`, `step_rows` and `column` hold its
rows, `summary` computes its figures, `document` is the run and its JSON. `load` reads a run
from a journal or run JSON (`load_run`, `compare_runs`); `compaction` writes the run JSON, once
or following a live writer, and `compactor` is the process that does so beside a training.
"""
