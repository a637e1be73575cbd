"""Import runs from other programs and export them.

`export` (one module per target in `targets/`), `imports` (one module per format in `sources/`),
`journals` (of imported runs), `frame` (pandas).
"""
