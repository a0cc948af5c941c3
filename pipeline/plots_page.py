"""`python -m pipeline.plots_page` writes the page that `dvc plots show` fills, with Vega in it: it asks no network.

DVC's own page fetches Vega from an address. The libraries come from vl-convert, which Vega's own project keeps.
`make install` runs this; `.dvc/config` names the file.
"""

from __future__ import annotations

from pathlib import Path

from features.files import write_text

PLOTS_PAGE = Path(".dvc") / "plots.html"

_VEGA_LITE = "5.20"  # DVC's templates are of Vega-Lite 5
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{refresh_tag}
<title>Plots</title>
<style>
body { margin: 2rem; font: 16px/1.5 sans-serif; }
table { border-spacing: 1rem; }
</style>
<script>(() => {
%s
})();</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def write_plots_page(root: Path) -> Path:
    """Write the page below the project's folder `root`, and return its path."""
    import vl_convert

    libraries = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=_VEGA_LITE)
    write_text(root / PLOTS_PAGE, _PAGE % libraries)
    return root / PLOTS_PAGE


if __name__ == "__main__":
    write_plots_page(Path())
