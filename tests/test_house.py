"""The architecture holds: layers, one owner per heavy dependency, and stages that depend on what they import."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from features.files import write_json
from pipeline.layout import Layout, models_of

REPOSITORY = Path(__file__).parents[1]
LAYERS = ("features", "heads", "reports", "pipeline")  # an import only ever points left
FRAME = (
    "pipeline/params.py",
    "pipeline/fetch_params.py",
    "pipeline/param_values.py",
    "pipeline/training_params.py",
    "pipeline/plain_yaml.py",
    "pipeline/layout.py",
    "pipeline/stage.py",
)
"""Carries values, paths and errors into every stage: DVC tracks the values and the paths themselves."""
MAX_LINES = 350
MODELS = models_of(["frozen", "finetuned"])
SCRATCH = {"cache", "checkpoint", "judged_recordings"}
"""Of a run that goes on, no result; files whose hashes stand in a dep."""
NEUTRAL = {"extract.num_workers"}  # no result depends on it
OWNERS = {
    "decord": ("features/decode/with_decord.py",),
    "av": (
        "features/decode/",
        "features/encode.py",
        "pipeline/demo/",
        "pipeline/capture/",
    ),  # reading, encoding, cameras
    "transformers": ("features/backbone.py", "heads/zero_shot.py"),
    "zarr": ("features/store/",),
    "safetensors": (
        "features/sealed.py",
        "features/cache.py",
        "features/checkpoint.py",
        "features/backbone.py",
        "heads/",
    ),
    "datasets": ("pipeline/dataset/",),
    "sklearn": ("reports/metrics/",),
    "click": ("pipeline/",),
    "pyarrow": ("pipeline/dataset/",),
    "requests": ("pipeline/download/",),
    "huggingface_hub": ("pipeline/download/",),
    "obstore": ("features/pieces/objects.py",),
    "ray": ("features/ray_engine.py",),
    "ruamel": ("pipeline/plain_yaml.py",),
    "torch": ("features/", "heads/", "pipeline/"),
}


def sources(root: Path) -> list[Path]:
    return sorted(path for layer in LAYERS for path in (root / layer).rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imported_names(path: Path, root: Path) -> frozenset[str]:
    """Dotted names that a module imports, nested imports included; `from a import b` gives both a and a.b."""
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(root).parent.parts
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def first_party(name: str, root: Path) -> list[Path]:
    """The files that importing a dotted name runs: its module and the packages above it; none if it is not ours."""
    parts = name.split(".")
    if parts[0] not in LAYERS:
        return []
    files = [root.joinpath(*parts[:end], "__init__.py") for end in range(1, len(parts) + 1)]
    return [file for file in [*files, root.joinpath(*parts).with_suffix(".py")] if file.is_file()]


def import_closure(start: Path, root: Path) -> set[Path]:
    """All first-party files that running a module may import, itself included, without those of the frame."""
    visited: set[Path] = set()
    waiting = [start, *first_party(".".join(start.relative_to(root).with_suffix("").parts), root)]
    while waiting:
        path = waiting.pop()
        if path not in visited and path.relative_to(root).as_posix() not in FRAME:
            visited.add(path)
            waiting += [file for name in imported_names(path, root) for file in first_party(name, root)]
    return visited


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
    """Whether a module has more than its docstring; an empty `__init__.py` changes no stage's result."""
    return any(not isinstance(node, ast.Expr) for node in parsed(path).body)


def stages(root: Path) -> dict[str, dict[str, Any]]:
    loaded: dict[str, Any] = YAML(typ="safe").load(root / "dvc.yaml")
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
    """Modules of pipeline/stages/ that define a `@stage`."""
    return {
        path.stem
        for path in (root / "pipeline" / "stages").glob("*.py")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
        if ast.unparse(decorator) == "stage"
    }


def paths_used(stage_name: str, root: Path) -> set[str]:
    """The paths that a stage's module takes from its `paths`; those of a model are of both unless it names one."""
    layout = Layout("${item.profile}", "${item.labels}")
    tree = parsed(root / "pipeline" / "stages" / f"{stage_name}.py")
    named: dict[ast.expr, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            argument = node.args[0]
            model = argument.value if isinstance(argument, ast.Constant) else None
            named[node.func] = [model] if isinstance(model, str) else list(MODELS)
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "paths":
            if node.attr in {"profile", "labels", "root", *SCRATCH}:
                continue
            path = getattr(layout, node.attr)
            used |= {str(path)} if isinstance(path, Path) else {str(path(model)) for model in named.get(node, MODELS)}
    return used


def is_inside(path: str, folders: set[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def paths_declared(stage: dict[str, Any]) -> set[str]:
    """A stage's deps and outs of any kind, except code."""
    entries = [entry for kind in ("deps", "outs", "metrics", "plots") for entry in stage.get(kind, [])]
    names = {next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries}
    return {name for name in names if name.split("/")[0] not in LAYERS}


def sections_used(stage_name: str, root: Path) -> set[str]:
    """The params that a stage's module reads, such as `extract.batch_size` or a whole section."""
    tree = parsed(root / "pipeline" / "stages" / f"{stage_name}.py")
    used = {
        ast.unparse(node).removeprefix("params.")
        for node in ast.walk(tree)
        if ast.unparse(node).startswith("params.") and isinstance(node, ast.Attribute)
    }
    used -= NEUTRAL
    return {name for name in used if not any(other.startswith(f"{name}.") for other in used)}


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


@needs_dvc_yaml
def test_a_stage_uses_exactly_the_paths_that_it_declares() -> None:
    """layout.py and dvc.yaml name the same files: what a stage opens is a dep, what it writes an out."""
    for name, stage in stages(REPOSITORY).items():
        used, declared = paths_used(name, REPOSITORY), paths_declared(stage)
        assert all(is_inside(path, declared) for path in used), (name, used - declared)
        assert all(any(is_inside(path, {name_}) for path in used) for name_ in declared), (name, declared - used)


@needs_dvc_yaml
def test_a_stage_reads_only_params_that_it_declares() -> None:
    """Every params value that a stage reads is tracked by it, so that no result is stale."""
    for name, stage in stages(REPOSITORY).items():
        (declared,) = [keys for entry in stage["params"] if isinstance(entry, dict) for keys in entry.values()] or [[]]
        for used in sections_used(name, REPOSITORY):
            assert any(used == key or used.startswith(f"{key}.") for key in declared), f"{name} reads {used}"


def test_no_module_is_too_long() -> None:
    """No module has more than 350 lines."""
    long = [path for path in sources(REPOSITORY) if len(path.read_text(encoding="utf-8").splitlines()) > MAX_LINES]
    assert long == []


def writing_calls(path: Path) -> list[str]:
    """Calls in a module that open a file for writing at its own place, such as `path.write_text(…)`."""
    calls = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]
    return [
        ast.unparse(call)
        for call in calls
        if (isinstance(call.func, ast.Attribute) and call.func.attr in ("write_text", "write_bytes", "touch"))
        or (
            ast.unparse(call.func).split(".")[-1] == "open"
            and any(
                isinstance(mode, ast.Constant) and str(mode.value).strip("bt+") in ("w", "a", "x") for mode in call.args
            )
        )
    ]


def test_only_files_py_writes_in_place() -> None:
    """An output may share its bytes with DVC's cache by a hard link: it is replaced, never written into."""
    owners = (
        "features/files.py",
        "pipeline/demo/",
        "pipeline/download/",
    )  # a download grows, and is renamed at its end
    calls = {
        (path.relative_to(REPOSITORY).as_posix(), call)
        for path in sources(REPOSITORY)
        if not path.relative_to(REPOSITORY).as_posix().startswith(owners)
        for call in writing_calls(path)
    }
    assert calls == set()


def test_an_output_that_is_linked_into_a_cache_keeps_its_bytes_there(tmp_path: Path) -> None:
    """A stage that is run by hand gives its output new bytes, and leaves the linked ones as they are."""
    write_json(tmp_path / "out.json", {"run": 1})
    (tmp_path / "cached").hardlink_to(tmp_path / "out.json")
    write_json(tmp_path / "out.json", {"run": 2})
    assert json.loads((tmp_path / "cached").read_text()) == {"run": 1}


def test_light_stages_import_nothing_heavy() -> None:
    """They start in well under a second of CPU: libraries are imported where they are used."""
    for name in ("sources", "fetch", "prepare", "sweep", "report", "export"):
        code = f"import sys, pipeline.stages.{name}; print(*sorted(sys.modules))"
        done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
        heavy = {"torch", "transformers", "sklearn", "datasets", "matplotlib", "zarr"} & set(done.stdout.split())
        assert not heavy, (name, heavy)


@pytest.fixture
def crooked(tmp_path: Path) -> Path:
    """A small repository with a fault of each kind."""
    files = {
        "features/__init__.py": '"""Features."""\n',
        "features/decode/grid.py": "import av\nfrom features import video\n",
        "features/video.py": "def late() -> None:\n    import zarr.storage\n",
        "heads/model.py": "from features import video\n\n\ndef late() -> None:\n    from pipeline.stages import cut\n",
        "reports/page.py": "import torch.nn\nimport heads.model\n",
        "pipeline/__init__.py": "X = 1\n",
        "pipeline/stages/cut.py": "from .. import paste\nfrom features.decode.grid import x\n@stage\ndef main(): ...\n",
        "pipeline/paste.py": "import yaml\n",
        "dvc.yaml": "stages:\n  cut:\n    matrix: {set: [a]}\n    cmd: python -m pipeline.stages.cut --in x\n"
        "    deps: [data/x, features, {pipeline/stages/cut.py: {}}]\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_checks_find_what_they_are_for(crooked: Path) -> None:
    """A wrong layer, a wrong owner and a missing dep are detected, inside functions too."""
    assert set(layer_faults(crooked)) == {
        "heads/model.py imports pipeline.stages",
        "heads/model.py imports pipeline.stages.cut",
    }
    assert owner_faults(crooked) == ["features/video.py imports zarr", "reports/page.py imports torch"]
    assert dependency_faults(crooked) == ["cut: pipeline/__init__.py", "cut: pipeline/paste.py"]
    assert stage_modules(crooked) == {"cut"}
    assert modules_run(stages(crooked)["cut"]) == ["pipeline.stages.cut"]


def test_the_closure_follows_imports_of_imports(crooked: Path) -> None:
    """Indirect imports and the packages of imported modules count."""
    closure = import_closure(crooked / "pipeline" / "stages" / "cut.py", crooked)
    assert {path.relative_to(crooked).as_posix() for path in closure} == {
        "features/__init__.py",
        "features/decode/grid.py",
        "features/video.py",
        "pipeline/__init__.py",
        "pipeline/stages/cut.py",
        "pipeline/paste.py",
    }
