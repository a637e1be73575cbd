"""`runs plot`: runs as PNG, SVG or PDF.

Begin with `plot`, the command. `figure` lays out a figure, `drawing` is what it draws, `panel` has
the panels, `any_series` one with any series, in `lines` within `limits`; `legend` names the runs.
`series` has a run as columns, `theme` has colours and sizes.
"""
