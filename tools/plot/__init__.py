"""`runs plot`: runs as PNG, SVG or PDF.

Begin with `plot`, the command. `figure` lays out a figure, `panel` draws one panel, `any_series`
one with any series, `series` has a run as columns, `theme` has colours and sizes.
"""
