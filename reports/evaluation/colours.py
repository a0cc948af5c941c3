"""Colours of the figures."""

INK, MUTED, LINE = "#24211d", "#6c665e", "#ddd6cc"
"""Colours of text, of secondary text and of grid lines; a page may replace them by its own."""
MODEL_COLOURS = ("#76869c", "#086b65", "#cf6a1c", "#6b2f9e")
"""Colours of the models, in their order, on a light background."""
MODEL_COLOURS_ON_DARK = ("#7f8ea5", "#3cc4b8", "#f2a860", "#b48cf2")
"""The same on a dark background. Each has a contrast of 3 or more, and colour-blind people can tell them apart."""
