"""Projects whose params name folders of somebody's, beside this repository's code."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.layout import Layout

REPOSITORY = Path(__file__).parents[1]


def make_project(root: Path, profile: str = "charades", **fetch: Any) -> Layout:
    """A project in the folder `root` with this repository's params and labels, and these values of section `fetch`."""
    for name in ("params", "labels"):
        shutil.copytree(REPOSITORY / name, root / name)
    shutil.copy(REPOSITORY / "params.yaml", root)
    if fetch:
        file, yaml = root / "params" / f"{profile}.yaml", YAML()
        values = yaml.load(file)
        values["fetch"].update(fetch)
        yaml.dump(values, file)
    return Layout(profile, root=root)
