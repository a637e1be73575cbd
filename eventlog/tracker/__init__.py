"""What a training program calls.

`opening` has `open_run`, which begins a session; `session` what it returns: a journal to log to,
with the compactor beside it. `api` has `init`, `log` and `finish`, `run` what `init` returns,
`arguments` what `init` was passed, `resume` which run it resumes. `values` takes settings, configs
and rows of any type, `config_file` a config that is a file; `journaled_dict` logs changes of
`config` and `summary`. `compatibility` has the names of the module `wandb`, `wandb_run` those of
its `Run`, `media` its tables and artifacts, `definition` what `define_metric` says. `annotation`
adds notes and tags to any run, `location` says where files are, `exit_code` how a program ended,
`notices` prints messages that can be turned off.
"""
