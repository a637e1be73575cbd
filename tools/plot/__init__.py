"""`runs plot`: runs as PNG, SVG or PDF.

Begin with `plot`, the command; `figure` lays out, `panel` draws one panel, `series` has a run
as columns, `theme` colours and sizes.
"""
