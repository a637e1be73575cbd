"""`runs watch`: runs in a terminal.

Begin with `watch`, the command; `screen` is the application, `listing` the runs, `chart` a
chart, `braille` lines as dots.
"""
