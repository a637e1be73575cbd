"""`runs tune`: many runs for one answer.

Begin with `tune`, the command. `tuner` keeps the slots busy, `study` is what was tried, `space`
what may be chosen, `metric` what is looked for, `trial` one run, `slots` cores and GPUs,
`template` commands, `study_figure` a study as a figure.
"""
