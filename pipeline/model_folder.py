"""The self-contained folder of a trained model: all that a diary of a recording needs, without a project.

It holds model.safetensors and config.json (weights, labels and provenance, the window plan and the preprocessing among
it), `backbone/` in the Hugging Face format, and diary.json: event rules, thresholds, where the model comes from, and
the hashes of the other files. A folder that is not as it was written is refused.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.files import atomic_folder, sha256_of
from features.sealed import damage_told, read_sealed_json, write_sealed_json
from features.video import WindowPlan
from heads import weights
from reports.diary.model import DiaryModel
from reports.events import EventRule

if TYPE_CHECKING:
    from features.clips import ClipReader
    from heads.action_model import ActionModel

_DIARY = "diary.json"
_BACKBONE = "backbone"
_FILES = "files"
_REMEDY = "export it again with `dvc repro export`, or copy it again"


class ModelFolderError(Exception):
    """A folder is not the model folder of a diary."""


@dataclass(frozen=True)
class Recogniser:
    """A model that is ready to run, and what turns its probabilities into a diary.

    `names` has the labels' names by id, in the order of the model's outputs. Quiet stretches of at least `min_quiet_s`
    are told as "nothing recognised".
    """

    model: ActionModel
    names: Mapping[str, str]
    diary_model: DiaryModel
    reader: ClipReader
    min_quiet_s: float


def write_model_folder(
    out: Path, *, model: Path, backbone: Path, diary_model: Mapping[str, Any], rules: Mapping[str, EventRule]
) -> None:
    """Write the folder `out` from a trained model's folder, the backbone's folder and what diary.json says."""
    with atomic_folder(out) as partial:
        for name in weights.FILES:
            shutil.copyfile(model / name, partial / name)
        (partial / _BACKBONE).mkdir()
        for file in sorted([*backbone.glob("*.json"), *backbone.glob("*.safetensors")]):
            shutil.copyfile(file, partial / _BACKBONE / file.name)
        content = {
            **diary_model,
            "rules": {label: asdict(rule) for label, rule in sorted(rules.items())},
            _FILES: {file.relative_to(partial).as_posix(): sha256_of(file) for file in _small_files(partial)},
        }
        write_sealed_json(partial / _DIARY, content)


def _small_files(folder: Path) -> list[Path]:
    """All but the weights: their hashes stand in config.json."""
    return sorted(file for file in folder.rglob("*.json") if file.name != _DIARY)


def load_recogniser(folder: Path) -> Recogniser:
    """Load a model folder onto the CPU. Raises `ModelFolderError`, or what loading one of its parts raises."""
    if not (folder / _DIARY).is_file():
        raise ModelFolderError(f"{folder} is no model folder: it has no {_DIARY}; `dvc repro export` writes one")
    from features.backbone import DTYPES, best_device, choose_precision, load_backbone
    from features.clips import ClipReader
    from features.preprocess import Preprocessing
    from heads.action_model import load_action_model

    diary = read_sealed_json(folder / _DIARY, remedy=_REMEDY)
    with damage_told(folder / _DIARY, remedy=_REMEDY):
        files, rules = diary[_FILES], {label: EventRule(**rule) for label, rule in diary["rules"].items()}
        dtype = DTYPES[choose_precision(diary["precision"], best_device())]
    for name, digest in files.items():
        if not (folder / name).is_file():
            raise ModelFolderError(f"{folder} is not whole: {name} is missing; {_REMEDY}")
        if sha256_of(folder / name) != digest:
            raise ModelFolderError(f"{folder / name} is damaged or was edited: its hash is another; {_REMEDY}")
    provenance = weights.read_config(folder)["provenance"]
    backbone = load_backbone(folder / _BACKBONE, dtype=dtype, attention=provenance["attention"])
    preprocessing = Preprocessing.from_checkpoint(folder / _BACKBONE)
    expected = {
        "backbone": {"id": backbone.id, "sha256": backbone.weights_sha256},
        "preprocessing": preprocessing.to_dict(),
    }
    backbone.require_fit(num_frames=provenance["windows"]["num_frames"], crop_size=preprocessing.crop_size)
    model, config = load_action_model(folder, backbone, preprocessing, expected=expected)
    with damage_told(folder / weights.FILES[1], remedy=_REMEDY):
        plan = WindowPlan(**provenance["windows"])
    return Recogniser(
        model=model,
        names={label["id"]: label["name"] for label in config["labels"]},
        diary_model=DiaryModel(
            profile=diary["profile"],
            label_set=diary["label_set"],
            model=diary["model"],
            model_sha256=weights.sha256(folder),
            thresholds_sha256=diary["thresholds_sha256"],
            rules=rules,
            test_micro_f1=diary["test_micro_f1"],
        ),
        reader=ClipReader(plan, preprocessing, diary["decoder"]),
        min_quiet_s=diary["min_quiet_s"],
    )
