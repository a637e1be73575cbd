"""`runs watch`: live charts in the terminal.

Begin with `watch`, the command, and `screen`, the application with its keys. `drawing` has the view
and turns runs into drawings, `chart` shows a drawing with the dots of `braille`; `listing` is the
list of runs, `summary` the state of one as text. `means` draws runs that differ in the seed alone.
"""
