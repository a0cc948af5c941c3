"""Colours of the figures."""

INK, MUTED, LINE = "#24211d", "#6c665e", "#ddd6cc"
"""Colours of text, of what explains it, and of grid lines: a page may put its own in their place."""
MODEL_COLOURS = ("#8c9bb0", "#0d7a73", "#b4632b", "#7a5ea8")
"""One for each model, in the order in which they are given; they stand out on light and on dark ground."""
