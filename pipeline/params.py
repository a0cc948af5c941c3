"""`params.yaml` and `params/<profile>.yaml`, read and checked as a whole.

Sections that the library can use are the library's own dataclasses; limits are declared once, where the class is. In
dvc.yaml no stage depends on this module: DVC tracks the values, and a stage reads only what it has under `params:`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pydantic.dataclasses
from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from features.gate import MotionGate
from features.video import Views, WindowPlan
from heads.training.schedule import Precision
from pipeline import plain_yaml
from pipeline.fetch_params import FOLDER_KEYS, FolderFetch, RenderedFetch
from pipeline.layout import Layout
from pipeline.param_values import AtLeastOne, Count, FolderName, NonNegative, Positive, Seed, require_unique, unique
from pipeline.plain_yaml import ParamsError
from pipeline.training_params import AttentiveParams, FinetuneParams, TemporalParams, TrainParams
from reports.thresholds import ThresholdGrid

PROJECT_FILE = Path("params.yaml")

# Profiles and label sets name files and stand in DVC's templates, where a dot or a slash means something else.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


@dataclass(frozen=True)
class PrepareParams:
    val_share: Annotated[float, Gt(0), Le(0.5)]
    seed: Seed


@dataclass(frozen=True)
class ExtractParams:
    decoder: Literal["auto", "pyav", "decord"]
    batch_size: AtLeastOne
    num_workers: Count
    precision: Literal["auto"] | Precision
    attention: Literal["sdpa", "eager"]
    views: Views
    max_cache_gb: Positive
    max_failed_share: Annotated[float, Ge(0), Le(1)]
    cache: Annotated[str, MinLen(1)] | None
    engine: Literal["local", "ray"]
    ray_address: Annotated[str, MinLen(1)] | None

    def __post_init__(self) -> None:
        if self.ray_address and self.engine == "local":
            raise ValueError(f"ray_address is for engine ray, got engine local, ray_address {self.ray_address}")


@dataclass(frozen=True)
class RecordingParams:
    motion_gate: Annotated[float, Gt(0), Le(1)] | None
    gate_max_s: Positive

    @property
    def gate(self) -> MotionGate | None:
        return None if self.motion_gate is None else MotionGate(self.motion_gate, self.gate_max_s)


@dataclass(frozen=True)
class TargetParams:
    min_overlap_s: Positive


@dataclass(frozen=True)
class CorrectionParams:
    repeats: AtLeastOne
    finetune: bool


@dataclass(frozen=True)
class DiaryParams:
    min_precision: Annotated[float, Gt(0), Lt(1)]
    min_quiet_s: NonNegative
    trained_on: Annotated[str, MinLen(1)]


def _require_short_windows(plan: WindowPlan) -> WindowPlan:
    if plan.num_frames > 4096 or max(plan.window_s, plan.stride_s) > 86_400:
        raise ValueError(f"a window has at most 4096 frames, it and a stride last at most a day, got {plan}")
    return plan


_CHECKED = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@pydantic.dataclasses.dataclass(frozen=True, config=_CHECKED)
class Params:
    """All sections of one profile."""

    seed: Seed
    seeds: Annotated[tuple[Seed, ...], MinLen(2), AfterValidator(unique("seeds"))] | None
    fetch: Annotated[RenderedFetch | FolderFetch, Field(discriminator="source")]
    prepare: PrepareParams
    windows: Annotated[WindowPlan, AfterValidator(_require_short_windows)]
    extract: ExtractParams
    recordings: RecordingParams
    targets: TargetParams
    train: TrainParams
    temporal: TemporalParams
    corrections: CorrectionParams
    finetune: FinetuneParams
    attentive: AttentiveParams | None
    clip: FolderName | None
    sweep: ThresholdGrid
    diary: DiaryParams

    def __post_init__(self) -> None:
        if self.attentive is not None and self.finetune.source != "block_inputs":
            raise ValueError(
                "attentive trains on stored block inputs: set finetune.source to block_inputs, or attentive to null"
            )
        if self.extract.views != "center" and self.finetune.source == "block_inputs":
            raise ValueError(
                f"extract.views {self.extract.views} needs finetune.source video, since block inputs are stored of one "
                "view of each window; got finetune.source block_inputs"
            )


@pydantic.dataclasses.dataclass(frozen=True, config=_CHECKED)
class Project:
    """What params.yaml says: the profile in use and the label sets."""

    profile: Name
    label_sets: Annotated[tuple[Name, ...], MinLen(1)]

    def __post_init__(self) -> None:
        require_unique("label_sets", self.label_sets)


def profile_file(profile: str) -> Path:
    """The params file of a profile, relative to the project's folder."""
    return Path("params", f"{profile}.yaml")


def load_project(root: Path) -> Project:
    """Read params.yaml in the folder `root`. Raises `ParamsError`."""
    project: Project = _load(root / PROJECT_FILE, Project)
    _require_profile(root, project.profile, f"{root / PROJECT_FILE}: profile")
    return project


def require_labels(root: Path, profile: str) -> None:
    """Raise `ParamsError` where a label file is missing, of which DVC would say no more than its path."""
    for label_set in load_project(root).label_sets:
        paths = Layout(profile, label_set, root)
        for path in (paths.label_set, paths.roles):
            if not path.is_file():
                raise ParamsError(
                    f"there is no {path}, which label set {label_set} in {PROJECT_FILE} asks for with profile "
                    f"{profile}: write it (docs/data.md); for labelled videos of your own "
                    "`diary dataset FOLDER` does"
                )


def load(root: Path, profile: str) -> Params:
    """Read all sections of `profile` from the folder `root`.

    Raises `ParamsError` with one line for each fault: the key's path, what is wrong, what is allowed.
    """
    _require_profile(root, profile, "profile")
    params: Params = _load(root / profile_file(profile), Params)
    _refuse_output_folders(root, profile, params.fetch)
    return params


def _refuse_output_folders(root: Path, profile: str, fetch: RenderedFetch | FolderFetch) -> None:
    """Nothing of the user's is, contains or lies inside a folder that stages write to: DVC deletes outputs."""
    written = [folder.resolve() for name in _profiles(root) for folder in Layout(name, root=root).output_roots]
    written.append(Layout(profile, root=root).cache.resolve())
    folders = fetch.folder if isinstance(fetch, FolderFetch) else lambda key: None
    named = {key: (folders(key),) for key in FOLDER_KEYS} | {"corrections": fetch.corrections}
    for key, folder in [(k, Path(own).expanduser().resolve()) for k in named for own in named[k] if own]:
        for output in written:
            if folder.is_relative_to(output) or output.is_relative_to(folder):
                raise ParamsError(
                    f"{root / profile_file(profile)}: fetch.{key}: {folder} overlaps with {output}, whose content "
                    "stages replace and delete; name a folder apart from it"
                )


def _profiles(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / "params").glob("*.yaml"))


def _require_profile(root: Path, profile: str, where: str) -> None:
    profiles = _profiles(root)
    if profile not in profiles:
        raise ParamsError(f"{where}: there is no params/{profile}.yaml; there are {', '.join(profiles) or 'none'}")


def _load(path: Path, kind: type[Any]) -> Any:
    values = plain_yaml.read(path)
    try:
        # JSON, because in strict mode pydantic takes lists for tuples and mappings for dataclasses only from there.
        return TypeAdapter(kind).validate_json(json.dumps(values))
    except ValidationError as error:
        raise ParamsError("\n".join(f"{path}: {_line(fault, values, kind)}" for fault in error.errors())) from error
    except ArithmeticError as error:  # of a check in a section's own class
        raise ParamsError(f"{path}: numbers are too large or too small together: {error}") from error


def _line(fault: ErrorDetails, values: dict[str, Any], kind: type[Any]) -> str:
    where = ".".join(_key_path(fault["loc"], values, is_missing=fault["type"] == "missing"))
    context = fault.get("ctx", {})
    match fault["type"]:
        case "unexpected_keyword_argument":
            allowed = _allowed_keys(kind, fault["loc"][:-1])
            near = difflib.get_close_matches(str(fault["loc"][-1]), allowed, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            return f"{where}: unknown key; {hint}allowed here: {', '.join(allowed)}"
        case "missing":
            return f"{where}: missing"
        case "union_tag_invalid":
            return f"{where}.source: got {context['tag']!r}; allowed: {context['expected_tags']}"
        case "union_tag_not_found":
            return f"{where}.source: missing"
        case "dataclass_type":
            return f"{where}: expected a mapping of keys, got {fault['input']!r}"
        case "value_error":
            return f"{where}: {context['error']}" if where else str(context["error"])
        case _:
            return f"{where}: {fault['msg'].removeprefix('Input ')}, got {fault['input']!r}"


def _key_path(loc: tuple[int | str, ...], values: dict[str, Any], *, is_missing: bool) -> Iterator[str]:
    """The key as it stands in the file, or as it should where it is missing.

    Pydantic's location also names the member of a union, `[key]`, and the index in a list that the file gives as one
    value: none of these is in the file.
    """
    node: Any = values
    for index, part in enumerate(loc):
        is_in_file = (isinstance(node, dict) and part in node) or (isinstance(node, list) and isinstance(part, int))
        if is_in_file:
            node = node[part]
        if is_in_file or (is_missing and index == len(loc) - 1):
            yield str(part)


def _allowed_keys(kind: type[Any], loc: tuple[int | str, ...]) -> list[str]:
    """The keys of the section at `loc` below `kind`."""
    section: type[Any] = kind
    sections: list[type[Any]] = [kind]
    for part in loc:
        hint = get_type_hints(section).get(str(part))
        if hint is None:  # the tag of a union, or a key of a mapping
            tagged = [member for member in sections if part in get_args(get_type_hints(member).get("source"))]
        else:
            tagged = sections = [
                member for member in _members(hint) if isinstance(member, type) and is_dataclass(member)
            ]
        section = (tagged or sections)[0]
    return [field.name for field in fields(section)]


def _members(hint: Any) -> Iterator[Any]:
    """The types that a hint is built of, without their metadata."""
    if get_origin(hint) is None:
        yield hint
    for argument in get_args(hint):
        yield from _members(argument)
