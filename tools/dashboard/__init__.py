"""`runs serve`: the page and its server.

Begin with `serve`, the command. `web` answers requests, `auth` says who may ask, `connections`
limits how many and how slow, `study` has a group of runs as a study; `page/` is what the
browser gets.
"""
