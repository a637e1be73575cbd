"""What a training program calls.

`session` has `open_run`: one writer's life in a journal, the compactor beside it. `api` has
`init`, `log` and `finish`, `run` what `init` returns, `resume` which run it goes on with,
`arguments` settings of any type, `compatibility` what scripts of other trackers also call.
`annotation` adds notes and tags to any run, `exit_code` knows how a program ended.
"""
