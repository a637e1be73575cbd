"""`runs serve`: the page and its server.

Begin with `serve`, the command, and `server`, which lists the routes. `auth` decides which requests
are answered, `connections` limits how many and how slow they may be. `request` reads their
parameters. The responses are made in `responses` (tables as JSON), `curves`, `csv_file` and `live`
(events); `study` and `parameters` compute a study. `page/` is what the browser loads;
begin there with `main.js`.
"""
