"""Colours of the figures."""

INK, MUTED, LINE = "#24211d", "#6c665e", "#ddd6cc"
"""Colours of text, of secondary text and of grid lines; a page may replace them by its own."""
MODEL_COLOURS = ("#8c9bb0", "#0d7a73", "#b4632b", "#7a5ea8")
"""Colours of the models, in their order; readable on a light and on a dark background."""
