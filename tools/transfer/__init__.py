"""To and from other programs.

`export` (a target a file in `targets/`), `imports` (a format a file in `sources/`), `frame`
(pandas).
"""
