"""`runs tune`: hyperparameter search.

Begin with `tune`, the command. `tuner` runs trials until the study is done, `study` stores them,
`space` has the parameters and their ranges, `trial` one process and its run, `slots` cores and
GPUs, `template` commands, `study_figure` the results as a plot.
"""
