"""The self-contained folder of a trained model: all that a diary of a recording needs, without a project.

It holds model.safetensors and config.json (weights, labels and provenance, the window plan and the preprocessing among
it), `backbone/` in the Hugging Face format, and diary.json: event rules, thresholds and where the model comes from.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.files import atomic_folder, write_json
from features.video import WindowPlan
from heads import weights
from reports.diary.model import DiaryModel
from reports.events import EventRule

if TYPE_CHECKING:
    from features.clips import ClipReader
    from heads.action_model import ActionModel

_DIARY = "diary.json"
_BACKBONE = "backbone"


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
        write_json(
            partial / _DIARY, {**diary_model, "rules": {label: asdict(rule) for label, rule in sorted(rules.items())}}
        )


def load_recogniser(folder: Path) -> Recogniser:
    """Load a model folder onto the CPU. Raises `ModelFolderError`, or what loading one of its parts raises."""
    if not (folder / _DIARY).is_file():
        raise ModelFolderError(f"{folder} is no model folder: it has no {_DIARY}; `dvc repro export` writes one")
    from features.backbone import DTYPES, best_device, choose_precision, load_backbone
    from features.clips import ClipReader
    from features.preprocess import Preprocessing
    from heads.action_model import load_action_model

    diary = json.loads((folder / _DIARY).read_text(encoding="utf-8"))
    provenance = weights.read_config(folder)["provenance"]
    dtype = DTYPES[choose_precision(diary["precision"], best_device())]
    backbone = load_backbone(folder / _BACKBONE, dtype=dtype, attention=provenance["attention"])
    preprocessing = Preprocessing.from_checkpoint(folder / _BACKBONE)
    expected = {
        "backbone": {"id": backbone.id, "sha256": backbone.weights_sha256},
        "preprocessing": preprocessing.to_dict(),
    }
    model, config = load_action_model(folder, backbone, preprocessing, expected=expected)
    return Recogniser(
        model=model,
        names={label["id"]: label["name"] for label in config["labels"]},
        diary_model=DiaryModel(
            profile=diary["profile"],
            label_set=diary["label_set"],
            model=diary["model"],
            model_sha256=weights.sha256(folder),
            thresholds_sha256=diary["thresholds_sha256"],
            rules={label: EventRule(**rule) for label, rule in diary["rules"].items()},
            test_micro_f1=diary["test_micro_f1"],
        ),
        reader=ClipReader(WindowPlan(**provenance["windows"]), preprocessing, diary["decoder"]),
        min_quiet_s=diary["min_quiet_s"],
    )
