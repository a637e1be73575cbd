"""`runs guard`: what goes wrong in a run, told once.

Begin with `guard`, the command. `watched` is one run it looks at, `vitals` its figures, `rules`
what may be wrong, `hooks` whom to tell, `watchman` a guard beside the page.
"""
