"""`runs guard`: reports what goes wrong in a run, once.

Begin with `guard`, the monitor and its command. `watched` is one run that it monitors, `vitals`
the health of a run, `rules` what may be wrong, `hooks` the commands and webhooks that an alert
triggers, `watchman` a guard beside the page.
"""
