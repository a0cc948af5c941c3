"""What `dvc repro` costs when nothing has changed, beside `dvc status`. Works in a copy of the checkout."""

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
    """One row: both commands as a person runs them, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        copy_checkout(root, copy)
        dvc(copy, "commit", "--force")  # what is there counts as made by what is there
        said = dvc(copy, "repro")
        if set(re.findall(r"Running stage '(\w+)", said)) - _ALWAYS_RUN:
            raise NothingToMeasure(f"`dvc repro` in a copy of the checkout finds work to do: {said}")
        taken = interleaved({"repro": lambda: dvc(copy, "repro"), "status": lambda: dvc(copy, "status")}, rounds=rounds)
    repro, status = taken["repro"].wall, taken["status"].wall
    return [
        Row(
            "`dvc repro` when nothing has changed",
            "its wall time / `dvc status`'s",
            repro.over(status),
            goal=1.3,
            better="lower",
            details={"rounds": rounds, **repro.details("repro"), **status.details("status")},
        )
    ]


def copy_checkout(root: Path, copy: Path) -> None:
    """Copy what git tracks or would track, and the outputs in data/, into a git repository of its own.

    Nothing is linked: `dvc commit` makes files read-only.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, copy / name)
    if not (root / "data").is_dir():
        raise NothingToMeasure("there is no data/: run `make repro` first")
    unneeded = shutil.ignore_patterns("checkpoints")  # no outputs: DVC does not look at them
    shutil.copytree(root / "data", copy / "data", ignore=unneeded, dirs_exist_ok=True)
    subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)


def dvc(folder: Path, *arguments: str) -> str:
    """Run a dvc command in a folder, and give what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NothingToMeasure(f"`dvc {' '.join(arguments)}` fails in a copy of the checkout: {done.stderr.strip()}")
    return done.stdout
