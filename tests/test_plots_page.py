"""`dvc plots show` in a project of this kind: a page that draws without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from pipeline.plots_page import write_plots_page
from tests.browsers import chromium, needs_chromium

REPOSITORY = Path(__file__).parents[1]
PLOTS = """plots:
  - thresholds:
      x: threshold
      y: {linear.csv: micro_f1, temporal.csv: micro_f1}
      title: Thresholds
"""

pytestmark = needs_chromium


def test_plots_are_drawn_without_a_network(tmp_path: Path) -> None:
    """A project with this one's DVC config gets a page with both curves in it, which asks for no address."""
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"}

    def run(*command: str) -> None:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    for model, rows in {"linear": ["0.1,0.2", "0.5,0.6"], "temporal": ["0.1,0.3", "0.5,0.7"]}.items():
        (tmp_path / f"{model}.csv").write_text("\n".join(["threshold,micro_f1", *rows]) + "\n")
    (tmp_path / "dvc.yaml").write_text(PLOTS)
    run("git", "init", "--quiet")
    run(sys.executable, "-m", "dvc", "init", "--quiet")
    shutil.copy(REPOSITORY / ".dvc" / "config", tmp_path / ".dvc" / "config")
    assert write_plots_page(tmp_path).name == "plots.html"
    run(sys.executable, "-m", "dvc", "plots", "show")

    asked: list[str] = []
    with chromium() as browser:
        context = browser.new_context(offline=True)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "dvc_plots" / "index.html").as_uri())
        page.wait_for_selector(".vega-embed canvas, .vega-embed svg")
        shown = page.evaluate("document.querySelectorAll('.vega-embed canvas, .vega-embed svg.marks').length")
    assert shown >= 1
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
