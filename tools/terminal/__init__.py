"""`runs watch`: live charts in the terminal.

Begin with `watch`, the command, and `screen`, the application with its keys. `view` is what is
asked for, `drawing` turns runs into drawings, `chart` shows one with the dots of `braille`;
`listing` is the list of runs, `summary` the state of one as text.
"""
