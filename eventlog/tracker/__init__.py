"""What a training program calls.

`opening` has `open_run`, which begins a session; `session` what it returns: a journal to log to,
with the compactor beside it. `api` has `init`, `log` and `finish`, `run` what `init` returns,
`resume` which run it resumes. `values` takes settings, configs and rows of any type,
`compatibility` has names of W&B. `annotation` adds notes and tags to any run, `location` says where
files are, `exit_code` how a program ended.
"""
