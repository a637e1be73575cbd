"""`runs guard`: reports what goes wrong in a run, once.

Begin with `guard`, the monitor; `command` is its command. `watched` is one monitored run, `vitals`
the health of a run, `rules` what may be wrong, `series_rules` the user's own rules, `hooks` the
commands and webhooks that an alert triggers, `background` a guard beside the page.
"""
