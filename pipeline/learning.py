"""`diary learn`: the project's temporal head taught by what people said of diaries. No video is read."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from features.cache import EmbeddingCache
from features.files import private_files
from features.gate import MotionGate
from features.provenance import require_provenance
from features.sealed import read_sealed_json
from features.store.embeddings import Embeddings, VideoEmbeddings, embeddings_of, read_embeddings
from features.video import Segment
from heads import weights
from heads.predictions import rows_by_video
from heads.temporal import TemporalEnsemble, load_temporal_head, video_probabilities
from heads.training.grid import best_of
from pipeline.dataset import labels, manifest
from pipeline.dataset.annotated import video_actions
from pipeline.dataset.manifest import Action
from pipeline.dataset.recordings import true_actions
from pipeline.dataset.roles import read_roles
from pipeline.dataset.truth import NothingToLearn, read_splits
from pipeline.diaries.failure import printable
from pipeline.diaries.output import CORRECTIONS, OutputFolder
from pipeline.layout import Layout
from pipeline.model_folder import write_model_folder
from pipeline.params import Params
from pipeline.recordings import NOT_KEPT
from pipeline.reviewed import read_hashes, reviewed_windows, teaching_corrections
from pipeline.training import temporal_config, temporal_trials
from reports.corrections import Correction, read_corrections
from reports.decoding import Decoding
from reports.metrics.matching import AnnotatedRecording, Kind, TrueEvent
from reports.tuning import carried_over

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Learned:
    """A model that was written: its event F1 on the project's val, that of the project's own, and what taught it."""

    f1_before: float
    f1: float
    num_recordings: int
    num_windows: int

    @property
    def line(self) -> str:
        recordings = (
            "one reviewed recording" if self.num_recordings == 1 else f"{self.num_recordings} reviewed recordings"
        )
        return (
            f"Learned from {self.num_windows} windows of {recordings}. On the project's "
            f"val, which teaches nothing, event F1 {self.f1_before:.3f} -> {self.f1:.3f}."
        )


class PlaceTaken(Exception):
    """Something else lies where the model is to be written."""


def require_place(out: Path, output: OutputFolder) -> None:
    """Raise `PlaceTaken` unless `out`, in a folder of diaries, is a model folder or nothing."""
    if out.name in output.rows or (out.exists() and not (out / "diary.json").is_file()):
        raise PlaceTaken(
            f"{out} is a recording's or somebody's own: the model is written there, so move it, or name another folder "
            "of diaries first"
        )


def learn(out: Path, diaries: Sequence[OutputFolder], params: Params, paths: Layout) -> Learned:
    """Write the model folder `out`: the project's temporal head, gone on from with the corrections of `diaries`.

    Calibration and event rules stay: tuned anew on val they lose on the person's other recordings (LOG.md). Their
    scores are measured on val again. Raises `NothingToLearn`.
    """
    model_name = _model_to_go_on_from(paths)
    base = paths.model(model_name)
    is_frozen = model_name == "temporal"
    head, config = load_temporal_head(base, expected={})
    features, label_set = tuple(config["features"]), labels.read_label_set(paths.label_set)
    videos = manifest.read(paths.manifest)
    (train, val), provenance = read_splits(
        paths.embeddings if is_frozen else paths.finetuned_embeddings("videos"),
        videos,
        ("train", "val"),
        label_set.ids,
        poolings=features,
        min_overlap_s=params.targets.min_overlap_s,
    )
    if is_frozen:
        require_provenance(config.get("provenance", {}), expected=provenance, path=base)
    made_of = {"labels": label_set.to_json()} | ({} if is_frozen else {"embeddings": provenance})
    require_provenance(config, expected=made_of, path=base)
    store = paths.recording_embeddings if is_frozen else paths.finetuned_embeddings("recordings")
    recordings, recordings_provenance = read_embeddings(store, poolings=features)
    require_provenance(recordings_provenance, expected=provenance, path=store)
    before = Decoding.load(paths.decoding(model_name))
    before.require_model(weights.sha256(base), paths.decoding(model_name))
    stride_s = params.windows.stride_s
    reviewed = reviewed_windows(
        *_taught(diaries, paths, provenance, params.recordings.gate),
        label_set.ids,
        exclusions=before.exclusions,
        min_overlap_s=params.targets.min_overlap_s,
        stride_s=stride_s,
    )
    if np.isnan(reviewed.cells).all():
        raise NothingToLearn(
            "no window of the reviewed videos was judged with certainty: say of events that they are right or wrong"
        )
    repeats = params.corrections.repeats
    # The head as it is, whatever the params say by now.
    temporal = replace(params.temporal, features=features, members=len(head.members), **config["temporal"])
    trials = temporal_trials(
        temporal,
        train,
        val,
        stride_s=stride_s,
        seed=params.seed,
        reviewed=reviewed.sequences(features, stride_s=stride_s, repeats=repeats),
        start=head,
    )
    taught = best_of(trials).head
    assert isinstance(taught, TemporalEnsemble)

    def annotated(kind: Kind, rows: Embeddings, actions: Mapping[str, Sequence[Action]]) -> list[AnnotatedRecording]:
        return list(_annotated(kind, rows.select(sorted(actions)), actions, taught, features, stride_s=stride_s))

    told = "one recording" if reviewed.num_recordings == 1 else f"{reviewed.num_recordings} recordings"
    stored = set(recordings.video_ids.tolist())
    of_videos = {key: own for key, own in video_actions(videos, "val").items() if key in set(val.video_ids)}
    with private_files(), TemporaryDirectory() as folder:
        model, decoding_path = Path(folder, "temporal"), Path(folder, "decoding.json")
        tensors, _ = weights.load(base, expected={})
        block = {name: tensor for name, tensor in tensors.items() if name.startswith(weights.LAST_BLOCK)}
        weights.save(
            model,
            block | taught.state_dict(),
            {name: config[name] for name in ("provenance", "labels", "embeddings") if name in config}
            | temporal_config(trials, train, temporal)
            | reviewed.facts(repeats=repeats),
        )
        decoding = carried_over(
            before,
            [
                *annotated("video", val.embeddings, of_videos),
                *annotated("recording", recordings, true_actions(paths.recordings, "val", stored)),
            ],
            stride_s=stride_s,
            model_sha256=weights.sha256(model),
        )
        decoding.save(decoding_path)
        write_model_folder(
            out,
            model=model,
            backbone=paths.backbone,
            decoding=decoding_path,
            typicality=paths.typicality,
            limits=paths.limits,
            roles=read_roles(paths.roles),
            diary_model={
                "profile": paths.profile,
                "label_set": paths.labels,
                "model": model_name,
                "test_precision": None,
                "decoder": params.extract.decoder,
                "precision": params.extract.precision,
                "trained_on": f"{params.diary.trained_on} Then it learned from what was said of {told} of this person.",
                "min_quiet_s": params.diary.min_quiet_s,
                "motion_gate": None if params.recordings.gate is None else asdict(params.recordings.gate),
            },
        )
    return Learned(before.event_f1, decoding.event_f1, reviewed.num_recordings, len(reviewed))


def _model_to_go_on_from(paths: Layout) -> str:
    """The temporal model that the project exports, or, where it exports another kind, the one on frozen embeddings."""
    exported = paths.diary_model / "diary.json"
    if exported.is_file():
        name = read_sealed_json(exported, remedy="run `dvc repro export`")["model"]
        if name in ("temporal", "finetune_temporal"):
            return str(name)
    return "temporal"


def _taught(
    diaries: Sequence[OutputFolder], paths: Layout, provenance: Mapping[str, Any], gate: MotionGate | None
) -> tuple[dict[str, tuple[Correction, ...]], Embeddings]:
    """The corrections of the videos of these diaries that may teach, by hash, and the embeddings that are kept of them.

    A video without embeddings is named in the log. So is one that the project's val or test has as well.
    """
    names = {row.sha256: row.file_name for output in diaries for row in output.rows.values()}
    said = [each for output in diaries for each in read_corrections(output.path / CORRECTIONS)]
    corrections = teaching_corrections(said, read_hashes(paths.recording_hashes))
    # What `diary write` keeps is of gated clips where the params say so, and a store has the backbone's name as well.
    key = {name: value for name, value in provenance.items() if name != "motion_gate"}
    key |= {"backbone": {"sha256": provenance["backbone"]["sha256"]}}
    key |= {} if gate is None else {"motion_gate": gate.to_json()}
    cache = EmbeddingCache(paths.cache, key)
    kept: dict[str, VideoEmbeddings] = {}
    with cache.locked():
        for video_sha256 in sorted(corrections):
            if cache.has(video_sha256):
                kept[video_sha256] = cache.load(video_sha256)
            else:
                name = names.get(video_sha256, f"a video with the hash {video_sha256[:16]}…")
                log.warning("%s", printable(f"{name}: {NOT_KEPT}; nothing is learned from it"))
    if not kept:
        raise NothingToLearn(
            f"nothing that can be learned was said of the videos of {', '.join(str(each.path) for each in diaries)}: "
            "`diary review` asks; what was left out stands above"
        )
    return {video_sha256: corrections[video_sha256] for video_sha256 in kept}, embeddings_of(kept)


def _annotated(
    kind: Kind,
    rows: Embeddings,
    actions: Mapping[str, Sequence[Action]],
    head: TemporalEnsemble,
    features: Sequence[str],
    *,
    stride_s: float,
) -> Iterator[AnnotatedRecording]:
    """What the head says of each video or recording, beside what truly happens in it."""
    for video_id, own in rows_by_video(rows.video_ids).items():
        vectors = [rows.vectors[name][own] for name in features]
        probabilities = video_probabilities(head, vectors, rows.start_s[own], stride_s=stride_s)
        windows = [Segment(*times) for times in zip(rows.start_s[own], rows.end_s[own], strict=True)]
        truth = [TrueEvent(video_id, action.label, action.segment) for action in actions[video_id]]
        yield AnnotatedRecording(video_id, kind, windows, probabilities, truth)
