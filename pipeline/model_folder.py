"""The self-contained folder of a trained model: all that a diary of a recording needs, without a project.

It holds model.safetensors and config.json (weights, labels and provenance, the window plan and the preprocessing among
it), `backbone/` in the Hugging Face format, decoding.json (calibration, event rules, labels that exclude each other),
typicality.safetensors and limits.json (what the model can say nothing of), and diary.json: where the model comes from,
the roles of its labels, and the hashes of the other files. A folder that is not as it was written is refused; only
README.md, its model card, may be edited.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from features.files import atomic_folder, sha256_of, write_text
from features.sealed import damage_told, read_sealed_json, write_sealed_json
from features.video import WindowPlan
from heads import weights
from pipeline.layout import Layout
from reports.decoding import Decoding
from reports.diary.model import DiaryModel
from reports.diary.recording import Unrecognisable
from reports.diary.roles import Role
from reports.events import Event, EventsFound
from reports.recognisable import Limits, recognisable_events, unrecognisable

if TYPE_CHECKING:
    from heads.typicality import Typicality
    from pipeline.recognition import Recognition, VideoModel

_DIARY = "diary.json"
_DECODING = "decoding.json"
_BACKBONE = "backbone"
_TYPICALITY = "typicality.safetensors"
_LIMITS = "limits.json"
_FILES = "files"
_CARD = "README.md"
_REMEDY = "export it again with `dvc repro export`, or copy it again"


class ModelFolderError(Exception):
    """A folder is not the model folder of a diary."""


@dataclass(frozen=True)
class Recogniser:
    """A model that is ready to run, and what turns its probabilities into a diary.

    `names` has the labels' names by id, in the order of the model's outputs. Windows begin every `stride_s`. Quiet
    stretches of at least `min_quiet_s` are told as "nothing recognised". `roles` are how a story tells labels.
    """

    model: VideoModel
    names: Mapping[str, str]
    decoding: Decoding
    diary_model: DiaryModel
    stride_s: float
    min_quiet_s: float
    roles: Mapping[str, Role]
    typicality: Typicality
    limits: Limits

    def unrecognisable(self, seen: Recognition) -> tuple[Unrecognisable, ...]:
        """The stretches of a recording that the model can say nothing of."""
        distances = self.typicality.distances(seen.vectors[self.typicality.pooling])
        return unrecognisable(seen.windows, distances, seen.pictures, self.limits, stride_s=self.stride_s)

    def label_video(self, path: Path | str, *, batch_size: int = 16, num_workers: int = 0) -> tuple[Event, ...]:
        """The events of a video file, as a diary tells them. Raises `UnreadableVideo`."""
        video = Path(path)
        seen = self.model.recognise(video, batch_size=batch_size, num_workers=num_workers)
        return self.events(video.stem, seen, self.unrecognisable(seen)).events

    def events(self, recording_id: str, seen: Recognition, stretches: Sequence[Unrecognisable]) -> EventsFound:
        """The events that a diary tells; none of them in the `stretches`."""
        return recognisable_events(
            self.decoding,
            recording_id,
            seen.windows,
            seen.probabilities,
            stretches,
            stride_s=self.stride_s,
            careful=True,
        )


def write_model_folder(
    out: Path,
    *,
    model: Path,
    backbone: Path,
    decoding: Path,
    typicality: Path,
    limits: Path,
    diary_model: Mapping[str, Any],
    roles: Mapping[str, Role] = MappingProxyType({}),
    card: str = "",
) -> None:
    """Write the folder `out` from a trained model's folder, the backbone's, three files, and what diary.json says.

    Of `roles`, those of the model's labels are kept. `card` is the text of the model card; without it there is none.
    """
    labels = weights.read_config(model)["labels"]
    with atomic_folder(out) as partial:
        for name in weights.FILES:
            shutil.copyfile(model / name, partial / name)
        for file, name in ((decoding, _DECODING), (typicality, _TYPICALITY), (limits, _LIMITS)):
            shutil.copyfile(file, partial / name)
        (partial / _BACKBONE).mkdir()
        for file in sorted([*backbone.glob("*.json"), *backbone.glob("*.safetensors")]):
            shutil.copyfile(file, partial / _BACKBONE / file.name)
        content = {
            **diary_model,
            "roles": {label["id"]: asdict(roles[label["id"]]) for label in labels if label["id"] in roles},
            _FILES: {file.relative_to(partial).as_posix(): sha256_of(file) for file in _small_files(partial)},
        }
        write_sealed_json(partial / _DIARY, content)
        if card:
            write_text(partial / _CARD, card)


def _small_files(folder: Path) -> list[Path]:
    """All but the weights: their hashes stand in config.json."""
    return sorted(file for file in [*folder.rglob("*.json"), folder / _TYPICALITY] if file.name != _DIARY)


def load_recogniser(folder: Path | str) -> Recogniser:
    """Load a model folder. Raises `ModelFolderError`, or what loading one of its parts raises."""
    folder = Path(folder)
    if not (folder / _DIARY).is_file():
        raise ModelFolderError(f"{folder} is no model folder: it has no {_DIARY}; `dvc repro export` writes one")
    from features.cache import EmbeddingCache
    from features.extraction import provenance as cache_key
    from features.gate import MotionGate
    from heads.action_model import load_action_model, replace_last_block
    from heads.temporal import load_temporal_head
    from heads.typicality import Typicality
    from pipeline.frozen import load_frozen_encoder
    from pipeline.recognition import SequenceModel, WindowModel

    diary = read_sealed_json(folder / _DIARY, remedy=_REMEDY)
    with damage_told(folder / _DIARY, remedy=_REMEDY):
        roles = {label: Role(**role) for label, role in diary.get("roles", {}).items()}
        files, trained_on = diary[_FILES], diary["trained_on"]
    for name, digest in files.items():
        if not (folder / name).is_file():
            raise ModelFolderError(f"{folder} is not whole: {name} is missing; {_REMEDY}")
        if sha256_of(folder / name) != digest:
            raise ModelFolderError(f"{folder / name} is damaged or was edited: its hash is another; {_REMEDY}")
    config = weights.read_config(folder)
    provenance = config["provenance"]
    with damage_told(folder / weights.FILES[1], remedy=_REMEDY):
        plan = WindowPlan(**provenance["windows"])
        gate = MotionGate(**diary["motion_gate"]) if diary.get("motion_gate") else None
    encoder = load_frozen_encoder(
        folder / _BACKBONE,
        Layout(diary["profile"]).cache,
        plan,
        decoder=diary["decoder"],
        precision=diary["precision"],
        attention=provenance["attention"],
        gate=gate,
        views=provenance.get("views", "center"),
    )
    backbone, reader = encoder.backbone, encoder.reader
    expected = {
        "backbone": encoder.store_provenance["backbone"],
        "preprocessing": reader.preprocessing.to_dict(),
    }
    model: VideoModel
    if "temporal" in config:
        head, config = load_temporal_head(folder, expected=expected)
        own = backbone.with_own_last_block()
        replace_last_block(folder, own, expected=expected)
        cache = EmbeddingCache(encoder.cache.root, cache_key(own, reader))
        frozen = (backbone, encoder.cache) if own.weights_sha256 != backbone.weights_sha256 else None
        model = SequenceModel(head, config["features"], own.to(encoder.device), reader, cache, frozen)
    else:
        action_model, config = load_action_model(
            folder, backbone.with_own_last_block(), reader.preprocessing, expected=expected
        )
        model = WindowModel(action_model, backbone, reader)
    decoding = Decoding.load(folder / _DECODING)
    return Recogniser(
        model=model,
        names={label["id"]: label["name"] for label in config["labels"]},
        decoding=decoding,
        diary_model=DiaryModel(
            profile=diary["profile"],
            label_set=diary["label_set"],
            model=diary["model"],
            model_sha256=weights.sha256(folder),
            thresholds_sha256=sha256_of(folder / _DECODING),
            rules=decoding.careful_rules,
            test_precision=diary["test_precision"],
            trained_on=trained_on,
        ),
        stride_s=plan.stride_s,
        min_quiet_s=diary["min_quiet_s"],
        roles=roles,
        typicality=Typicality.load(folder / _TYPICALITY, backbone_sha256=backbone.weights_sha256, remedy=_REMEDY),
        limits=Limits.load(folder / _LIMITS),
    )
