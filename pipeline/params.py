"""`params.yaml`, read and checked as a whole. Knows what each number may be; knows no stage and no path of the project.

Stages take their numbers from here and hand them on as plain keywords: nothing below `pipeline/` sees these classes.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from features.video import WindowPlan


class ParamsError(Exception):
    """params.yaml cannot be used. The message has a line for each thing that is wrong."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _knows_every_key(cls, values: Any) -> Any:
        unknown = [str(key) for key in values if key not in cls.model_fields] if isinstance(values, dict) else []
        if unknown:
            raise PydanticCustomError("unknown_keys", "", {"unknown": unknown, "allowed": list(cls.model_fields)})
        return values


Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
OpenShare = Annotated[float, Field(gt=0, lt=1)]
Precision = Literal["fp32", "bf16", "fp16"]
LossName = Literal["bce", "asymmetric", "class_balanced"]
# One value or a list of them; what is read is always a tuple.
OneOrMore = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else (value,))
# Profiles and label sets name files and stand in DVC's templates, where a dot or a slash means something else.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
ClassId = Annotated[str, Field(pattern=r"^c\d{3}$")]


class RenderedFetch(_Section):
    source: Literal["rendered"]
    seed: Count
    num_train_videos: PositiveInt
    num_test_videos: PositiveInt
    num_train_subjects: Annotated[int, Field(ge=2)]
    num_test_subjects: PositiveInt
    mean_length_s: PositiveFloat
    recording_s: PositiveFloat


class FolderFetch(_Section):
    source: Literal["folder"]
    dataset_dir: Annotated[str, Field(min_length=1)]
    backbone_dir: Annotated[str, Field(min_length=1)]
    recordings_dir: Annotated[str, Field(min_length=1)] | None


class PrepareParams(_Section):
    val_share: Annotated[float, Field(gt=0, le=0.5)]
    seed: Count


class WindowParams(_Section):
    num_frames: PositiveInt
    sample_fps: PositiveFloat
    stride_s: PositiveFloat

    @model_validator(mode="after")
    def _is_a_plan(self) -> WindowParams:
        _ = self.plan  # a plan checks itself where it is made
        return self

    @property
    def plan(self) -> WindowPlan:
        return WindowPlan(self.num_frames, self.sample_fps, self.stride_s)


class ExtractParams(_Section):
    decoder: Literal["auto", "pyav", "decord"]
    batch_size: PositiveInt
    num_workers: Count
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    attention: Literal["sdpa", "eager"]
    max_cache_gb: PositiveFloat
    max_failed_share: Annotated[float, Field(ge=0, le=1)]


class TargetParams(_Section):
    min_overlap_s: PositiveFloat


class ScheduleParams(_Section):
    batch_size: PositiveInt
    accumulation: PositiveInt
    steps: PositiveInt
    evaluate_every_steps: PositiveInt
    patience: PositiveInt
    warmup_share: Share
    decay: Literal["cosine", "constant"]
    max_grad_norm: PositiveFloat | None
    precision: Precision

    @model_validator(mode="after")
    def _ends_on_an_update_and_is_evaluated(self) -> ScheduleParams:
        if self.steps % self.accumulation:
            raise ValueError(
                f"steps must be a multiple of accumulation, or the last gradients are lost: "
                f"got {self.steps} and {self.accumulation}"
            )
        if self.evaluate_every_steps > self.steps:
            raise ValueError(f"evaluate_every_steps must be at most steps = {self.steps}")
        return self

    def schedule(self) -> dict[str, Any]:
        """The values of a `heads.training.loop.TrainingSchedule`, by its names."""
        names = (
            "steps",
            "accumulation",
            "patience",
            "warmup_share",
            "decay",
            "max_grad_norm",
            "precision",
        )
        return {name: getattr(self, name) for name in names} | {"evaluate_every": self.evaluate_every_steps}


class TrainParams(ScheduleParams):
    features: Annotated[tuple[Literal["pooler", "mean", "max"], ...], Field(strict=False, min_length=1)]
    learning_rate: Annotated[tuple[PositiveFloat, ...], OneOrMore, Field(min_length=1)]
    weight_decay: Annotated[tuple[NonNegativeFloat, ...], OneOrMore, Field(min_length=1)]
    loss: Annotated[tuple[LossName, ...], OneOrMore, Field(min_length=1)]

    @model_validator(mode="after")
    def _names_each_once(self) -> TrainParams:
        for key in ("features", "learning_rate", "weight_decay", "loss"):
            _no_doubles(key, getattr(self, key))
        return self


class FinetuneParams(ScheduleParams):
    source: Literal["video", "tokens"]
    tokens_gb: PositiveFloat
    tokens_precision: Precision
    random_starts: bool
    flip: bool
    head_learning_rate: PositiveFloat
    backbone_learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    windows_per_video: PositiveInt
    shuffle_windows: PositiveInt
    evaluate_windows: PositiveInt
    checkpoint_every_steps: PositiveInt

    @model_validator(mode="after")
    def _augments_video_alone(self) -> FinetuneParams:
        if self.source == "tokens" and (self.random_starts or self.flip):
            raise ValueError(
                "random_starts and flip need source video: stored tokens are of windows as they are; "
                f"got source tokens, random_starts {str(self.random_starts).lower()} and flip {str(self.flip).lower()}"
            )
        return self


class SweepParams(_Section):
    low: OpenShare
    high: OpenShare
    step: OpenShare
    min_positives: PositiveInt

    @model_validator(mode="after")
    def _is_a_range(self) -> SweepParams:
        steps = (self.high - self.low) / self.step
        if self.low >= self.high or abs(steps - round(steps)) > 1e-6:
            raise ValueError(
                f"low + a whole number of steps must give high, got {self.low:g} … {self.high:g} by {self.step:g}"
            )
        return self


class LabelRule(_Section):
    min_duration_s: Seconds | None = None
    merge_gap_s: Seconds | None = None


class DiaryParams(_Section):
    thresholds: Literal["global", "per_label"]
    offset_ratio: Annotated[float, Field(gt=0, le=1)]
    min_duration_s: Seconds
    merge_gap_s: Seconds
    min_quiet_s: Seconds
    per_label: dict[ClassId, LabelRule]


class ProfileParams(_Section):
    seed: Count
    fetch: Annotated[RenderedFetch | FolderFetch, Field(discriminator="source")]
    prepare: PrepareParams
    windows: WindowParams
    extract: ExtractParams
    targets: TargetParams
    train: TrainParams
    finetune: FinetuneParams
    sweep: SweepParams
    diary: DiaryParams


class Params(_Section):
    """All of params.yaml: which profile is active, the label sets, and every profile's section."""

    profile: Name
    label_sets: Annotated[tuple[Name, ...], Field(strict=False, min_length=1)]
    profiles: dict[Name, ProfileParams]

    @model_validator(mode="after")
    def _names_what_is_there(self) -> Params:
        if self.profile not in self.profiles:
            raise PydanticCustomError("no_such_profile", "", {"allowed": list(self.profiles)})
        _no_doubles("label_sets", self.label_sets)
        return self

    @property
    def active(self) -> ProfileParams:
        return self.profiles[self.profile]

    def with_profile(self, profile: str) -> Params:
        """The same file read for another profile; a name without a section raises `ParamsError`."""
        if profile not in self.profiles:
            raise ParamsError(f"no section named {profile!r} in params.yaml; there are {', '.join(self.profiles)}")
        return self.model_copy(update={"profile": profile})


def load(path: Path) -> Params:
    """Read and check the whole file, the sections of profiles that are not active included.

    Raises `ParamsError` with one line for each fault: the key's path, what is wrong, what is allowed.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the repository's top folder") from None
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ParamsError(f"{path}{line}: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: not a YAML file: {error}") from error
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: a mapping of keys is wanted, got {values!r}")
    top = {key: values[key] for key in ("profile", "label_sets") if key in values}
    profiles = {key: value for key, value in values.items() if key not in top}
    try:
        return Params.model_validate({**top, "profiles": profiles})
    except ValidationError as error:
        lines = [line for details in error.errors() for line in _lines(details, values)]
        raise ParamsError("\n".join(f"{path}: {line}" for line in lines)) from error


class _Loader(yaml.SafeLoader):
    """YAML as DVC reads it: 1e-4 is a number (for YAML 1.1 it is a word), and no key may stand twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value} is given twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _no_doubles(key: str, values: tuple[Any, ...]) -> None:
    doubles = sorted({value for value in values if values.count(value) > 1})
    if doubles:
        raise ValueError(f"{key} names {', '.join(map(str, doubles))} more than once")


def _lines(details: ErrorDetails, values: dict[str, Any]) -> Iterator[str]:
    where = _key_path(details["loc"], values)
    context, got = details.get("ctx", {}), details["input"]
    match details["type"]:
        case "unknown_keys":
            for key in context["unknown"]:
                near = difflib.get_close_matches(key, context["allowed"], n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                yield f"{'.'.join([*where, key])}: unknown key; {hint}allowed here: {', '.join(context['allowed'])}"
        case "no_such_profile":
            yield f"profile: no section named {values['profile']!r}; allowed: {', '.join(context['allowed']) or 'none'}"
        case "missing":
            yield f"{'.'.join(where)}: missing"
        case "union_tag_invalid":
            yield f"{'.'.join(where)}.source: got {context['tag']!r}; allowed: {context['expected_tags']}"
        case "union_tag_not_found":
            yield f"{'.'.join(where)}.source: missing"
        case "model_type" | "model_attributes_type" if len(where) == 1:
            yield (
                f"{where[0]}: neither profile nor label_sets, so it must be a profile's section with the keys "
                f"{', '.join(ProfileParams.model_fields)}; got {got!r}"
            )
        case "value_error":
            told = str(context["error"])
            yield f"{'.'.join(where)}: {told}" if where else told
        case _:
            yield f"{'.'.join(where)}: {details['msg'].removeprefix('Input ')}, got {got!r}"


def _key_path(loc: tuple[int | str, ...], values: dict[str, Any]) -> list[str]:
    """The key as it stands in the file: pydantic also names the member of a union, `[key]`, and the place in a list
    of one that the file gives without a list, which do not.
    """
    path: list[str] = []
    node: Any = values
    parts = loc[1:] if loc[:1] == ("profiles",) else loc
    for part in parts:
        inside = (isinstance(node, dict) and part in node) or (isinstance(node, list) and isinstance(part, int))
        if inside:
            node = node[part]
        if inside or (part is parts[-1] and isinstance(part, str) and part != "[key]"):
            path.append(str(part))
    return path
