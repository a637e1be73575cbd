"""What a training program calls.

`opening` has `open_run`, which begins a session; `session` what it returns: a journal to log to,
with the compactor beside it, and `ending_after`, which decides the status with which a run ends.
`api` has `init`, `log` and `finish`, `run` what `init` returns, `arguments` what `init` was passed,
`resume` which run it resumes, `latest_row` whether an event replaces what was logged at its step.

`values` takes settings, configs and rows of any type, `config_file` a config that is a file;
`journaled_dict` logs changes of `config` and `summary`. `compatibility` has the names of the module
`wandb`, `wandb_run` those of its `Run`, `media` its tables and artifacts, `definition` what
`define_metric` says. `annotation` adds notes and tags to any run, `location` says where files are,
`notices` prints messages that can be turned off.

How a program ends: `exit_code` its exit code, for which `sys_exit` replaces `sys.exit`;
`last_error` the exception that ended it, or a cell of a notebook; `handling` the one being handled;
`received` the signal that is why, `click_exit` the exits of click. `beginning` says whether an
exception kept a run from its `finish()`, `ending` whether what came after that corrects the status.
"""
