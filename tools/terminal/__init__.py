"""`runs watch`: live charts in the terminal.

Begin with `watch`, the command, and `screen`, the application with its keys. `drawing` has what is
asked for and turns runs into drawings, `chart` shows one with the dots of `braille`;
`listing` is the list of runs, `summary` the state of one as text.
"""
