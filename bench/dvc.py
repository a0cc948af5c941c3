"""How long `dvc repro` takes when nothing has changed, compared with `dvc status`. Works in a copy of the checkout."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import Row, interleaved
from bench.worlds import ROOT, NothingToMeasure

_ALWAYS_RUN = {"sources"}  # it looks into the user's folders every time


def measure(*, root: Path = ROOT, rounds: int = 5) -> list[Row]:
    """One row; each command runs in its own process, as on a command line."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        copy_checkout(root, copy)
        dvc(copy, "commit", "--force")  # so that outputs count as made by the code and inputs of the copy
        output = dvc(copy, "repro")
        if set(re.findall(r"Running stage '(\w+)", output)) - _ALWAYS_RUN:
            raise NothingToMeasure(f"`dvc repro` in a copy of the checkout finds work to do: {output}")
        taken = interleaved({"repro": lambda: dvc(copy, "repro"), "status": lambda: dvc(copy, "status")}, rounds=rounds)
    repro, status = taken["repro"].wall, taken["status"].wall
    return [
        Row(
            "`dvc repro` when nothing has changed",
            "its wall time / `dvc status`'s",
            repro.over(status),
            goal=1.3,
            better="lower",
            note="the stage `sources` runs every time, to see what changed in the user's folders",
            details={"rounds": rounds, **repro.details("repro"), **status.details("status")},
        )
    ]


def copy_checkout(root: Path, copy: Path) -> None:
    """Copy the files that git tracks or would track, and data/, into a new git repository.

    Files are copied, not linked, since `dvc commit` makes them read-only. Raises `NothingToMeasure` without data/.
    """
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, names.split("\0")):
        if (root / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, copy / name)
    if not (root / "data").is_dir():
        raise NothingToMeasure("there is no data/: run `make repro` first")
    unneeded = shutil.ignore_patterns("checkpoints")  # not outputs of a stage
    for outputs in ("data", "results"):
        if (root / outputs).is_dir():
            shutil.copytree(root / outputs, copy / outputs, ignore=unneeded, dirs_exist_ok=True)
    subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)


def dvc(folder: Path, *arguments: str) -> str:
    """Run a dvc command in a folder and return its stdout. Raises `NothingToMeasure` if it fails."""
    process = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if process.returncode:
        raise NothingToMeasure(f"`dvc {' '.join(arguments)}` fails in a copy of the checkout: {process.stderr.strip()}")
    return process.stdout
