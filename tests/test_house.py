"""The house stands as it was drawn: layers, one owner a heavy dependency, and stages that name what they import."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
LAYERS = ("features", "heads", "reports", "pipeline")  # an import only ever points left
OWNERS = {
    "decord": ("features/decode/",),
    "av": ("features/decode/", "pipeline/demo/"),  # reading, and encoding
    "transformers": ("features/backbone.py",),
    "zarr": ("features/store/",),
    "safetensors": ("features/cache.py", "features/backbone.py", "heads/"),
    "datasets": ("pipeline/dataset/manifest.py",),
    "sklearn": ("reports/metrics/",),
    "click": ("pipeline/",),
    "yaml": ("pipeline/",),
    "torch": ("features/", "heads/", "pipeline/"),
}


def sources(root: Path) -> list[Path]:
    return sorted(path for layer in LAYERS for path in (root / layer).rglob("*.py"))


def imported_names(path: Path, root: Path) -> Iterator[str]:
    """Dotted names that a module imports, nested imports included; `from a import b` gives both a and a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(root).parent.parts
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def first_party(name: str, root: Path) -> list[Path]:
    """The files that importing a dotted name runs: its module and the packages above it; none if it is not ours."""
    parts = name.split(".")
    if parts[0] not in LAYERS:
        return []
    files = [root.joinpath(*parts[:end], "__init__.py") for end in range(1, len(parts) + 1)]
    return [file for file in [*files, root.joinpath(*parts).with_suffix(".py")] if file.is_file()]


def import_closure(start: Path, root: Path) -> set[Path]:
    """All first-party files that running a module may import, itself included."""
    found: set[Path] = set()
    waiting = [start, *first_party(".".join(start.relative_to(root).with_suffix("").parts), root)]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [file for name in imported_names(path, root) for file in first_party(name, root)]
    return found


def layer_faults(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root)} imports {name}"
        for path in sources(root)
        for name in imported_names(path, root)
        if name.split(".")[0] in LAYERS
        and LAYERS.index(name.split(".")[0]) > LAYERS.index(path.relative_to(root).parts[0])
    ]


def owner_faults(root: Path) -> list[str]:
    return sorted(
        {
            f"{path.relative_to(root)} imports {package}"
            for path in sources(root)
            for package in (name.split(".")[0] for name in imported_names(path, root))
            if package in OWNERS and not path.relative_to(root).as_posix().startswith(OWNERS[package])
        }
    )


def is_code(path: Path) -> bool:
    """Whether a module holds more than its docstring: a package's bare head changes no stage's result."""
    return any(not isinstance(node, ast.Expr) for node in ast.parse(path.read_text(encoding="utf-8")).body)


def stages(root: Path) -> dict[str, dict[str, Any]]:
    loaded: dict[str, Any] = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))
    return {name: stage.get("do", stage) for name, stage in loaded["stages"].items()}


def modules_run(stage: dict[str, Any]) -> list[str]:
    commands = [stage["cmd"]] if isinstance(stage["cmd"], str) else stage["cmd"]
    return [name for command in commands for name in re.findall(r"python3? -m (pipeline\.[\w.]+)", command)]


def dependency_faults(root: Path) -> list[str]:
    """`stage: file` for each file of a stage's import closure that is neither a dep nor inside one."""
    faults = []
    for stage_name, stage in stages(root).items():
        deps = [root / (next(iter(dep)) if isinstance(dep, dict) else dep) for dep in stage.get("deps", [])]
        closure = {
            file
            for module in modules_run(stage)
            for file in import_closure(root.joinpath(*module.split(".")).with_suffix(".py"), root)
        }
        faults += [
            f"{stage_name}: {file.relative_to(root)}"
            for file in sorted(closure)
            if is_code(file) and not any(dep == file or dep in file.parents for dep in deps)
        ]
    return faults


def stage_modules(root: Path) -> set[str]:
    """Modules of pipeline/stages/ that define a `@stage(…)`."""
    return {
        path.stem
        for path in (root / "pipeline" / "stages").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).split(".")[-1] == "stage"
    }


needs_dvc_yaml = pytest.mark.skipif(not (REPOSITORY / "dvc.yaml").exists(), reason="there is no dvc.yaml yet")


def test_an_import_only_points_left() -> None:
    """features <- heads <- reports <- pipeline: no module imports from a layer to its right."""
    assert layer_faults(REPOSITORY) == []


def test_each_heavy_dependency_has_its_owner() -> None:
    """decord, av, transformers, zarr, datasets, sklearn, click, yaml and torch stay where they belong."""
    assert owner_faults(REPOSITORY) == []


@needs_dvc_yaml
def test_every_module_that_a_stage_imports_is_among_its_deps() -> None:
    """A change in any module that a stage may import makes `dvc repro` run the stage again."""
    assert dependency_faults(REPOSITORY) == []


@needs_dvc_yaml
def test_stages_and_modules_bear_the_same_names() -> None:
    """Stage X runs `python -m pipeline.stages.X`, and every module with a `@stage` is a stage of dvc.yaml."""
    names = {name: modules_run(stage) for name, stage in stages(REPOSITORY).items()}
    assert names == {name: [f"pipeline.stages.{name}"] for name in names}
    assert stage_modules(REPOSITORY) == set(names)


@pytest.fixture
def crooked(tmp_path: Path) -> Path:
    """A house with a fault of each kind."""
    files = {
        "features/__init__.py": '"""Features."""\n',
        "features/decode/grid.py": "import av\nfrom features import video\n",
        "features/video.py": "def late() -> None:\n    import zarr.storage\n",
        "heads/model.py": "from features import video\n\n\ndef late() -> None:\n    from pipeline.stages import cut\n",
        "reports/page.py": "import torch.nn\nimport heads.model\n",
        "pipeline/__init__.py": "X = 1\n",
        "pipeline/stages/cut.py": "from .. import paste\nfrom features.decode.grid import x\n"
        "@stage(E)\ndef main(): ...\n",
        "pipeline/paste.py": "import yaml\n",
        "dvc.yaml": "stages:\n  cut:\n    matrix: {set: [a]}\n    cmd: python -m pipeline.stages.cut --in x\n"
        "    deps: [data/x, features, {pipeline/stages/cut.py: {}}]\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_checks_find_what_they_are_for(crooked: Path) -> None:
    """An import to the right, a stranger's import and a forgotten dep are seen, inside functions too."""
    assert set(layer_faults(crooked)) == {
        "heads/model.py imports pipeline.stages",
        "heads/model.py imports pipeline.stages.cut",
    }
    assert owner_faults(crooked) == ["features/video.py imports zarr", "reports/page.py imports torch"]
    assert dependency_faults(crooked) == ["cut: pipeline/__init__.py", "cut: pipeline/paste.py"]
    assert stage_modules(crooked) == {"cut"}
    assert modules_run(stages(crooked)["cut"]) == ["pipeline.stages.cut"]


def test_the_closure_follows_imports_of_imports(crooked: Path) -> None:
    """What a module's imports import counts, and so do the packages that they lie in."""
    closure = import_closure(crooked / "pipeline" / "stages" / "cut.py", crooked)
    assert {path.relative_to(crooked).as_posix() for path in closure} == {
        "features/__init__.py",
        "features/decode/grid.py",
        "features/video.py",
        "pipeline/__init__.py",
        "pipeline/stages/cut.py",
        "pipeline/paste.py",
    }
