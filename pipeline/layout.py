"""Where files lie: every path of the project, by profile and label set. dvc.yaml names the same ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

MODELS = ("linear", "temporal", "finetune")
"""A head on each window, a head on whole videos, and the last encoder block: in the order of every table."""


def models_of(embeddings: Sequence[str]) -> tuple[str, ...]:
    """The models of a profile whose temporal heads see these `embeddings`, in the order of every table."""
    return (*MODELS, "finetune_temporal") if "finetuned" in embeddings else MODELS


@dataclass(frozen=True)
class Layout:
    """The paths of one profile below the project's folder `root`; those below `labels` are of one label set."""

    profile: str
    labels: str = ""
    root: Path = Path()

    @property
    def cache(self) -> Path:
        """Finished videos of all profiles and checkouts, by content. The environment's `VIDEO_DIARY_CACHE` moves it.

        It lies outside the project, so that experiments in temporary workspaces find it and add to it.
        """
        folder = os.environ.get("VIDEO_DIARY_CACHE")
        return Path(folder).expanduser().absolute() if folder else user_cache_path("video-diary-logger")

    @property
    def sources(self) -> Path:
        """What the user's folders hold."""
        return self._data / "sources.csv"

    @property
    def dataset(self) -> Path:
        return self._data / "fetched" / "dataset"

    @property
    def backbone(self) -> Path:
        return self._data / "fetched" / "backbone"

    @property
    def recordings(self) -> Path:
        return self._data / "fetched" / "recordings"

    @property
    def judged_recordings(self) -> Path:
        """The recordings, of which the stage reads those alone whose hashes stand in `judged`."""
        return self.recordings

    @property
    def corrections(self) -> Path:
        """The folder of what people said of recordings."""
        return self._data / "fetched" / "corrections"

    @property
    def corrections_file(self) -> Path:
        return self.corrections / "corrections.jsonl"

    @property
    def label_sets(self) -> Path:
        return self.root / "labels" / self.profile

    @property
    def label_set(self) -> Path:
        return self.label_sets / f"{self.labels}.txt"

    @property
    def roles(self) -> Path:
        """How a diary's story tells each label, for all label sets of the profile."""
        return self.label_sets / "roles.csv"

    @property
    def manifest(self) -> Path:
        return self._data / "manifest"

    @property
    def facts(self) -> Path:
        return self.root / "results" / self.profile / "facts.json"

    @property
    def embeddings(self) -> Path:
        return self._data / "embeddings.zarr"

    @property
    def block_inputs(self) -> Path:
        return self._data / "block_inputs.zarr"

    @property
    def failed(self) -> Path:
        return self._data / "failed.csv"

    @property
    def recording_embeddings(self) -> Path:
        return self._data / "recordings.zarr"

    @property
    def recording_hashes(self) -> Path:
        """The hash of the bytes of each recording that is embedded."""
        return self._data / "recordings.csv"

    @property
    def failed_recordings(self) -> Path:
        return self._data / "failed_recordings.csv"

    @property
    def finetuned(self) -> Path:
        """What the finetuned block gives, where a temporal head is to see it."""
        return self._data / "finetuned" / self.labels

    def finetuned_embeddings(self, of: str) -> Path:
        """Of the data set's `videos`, or of annotated `recordings`."""
        return self.finetuned / f"{of}.zarr"

    def model(self, model: str) -> Path:
        return self._data / "models" / self.labels / model

    @property
    def typicality(self) -> Path:
        """What a window is compared with that the models may know nothing of."""
        return self._data / "models" / self.labels / "typicality.safetensors"

    @property
    def judged(self) -> Path:
        """What people said of recordings, for stage 2 where it learns from it."""
        return self._data / "models" / self.labels / "judged.json"

    @property
    def diary_model(self) -> Path:
        """The self-contained folder that diaries are written with."""
        return self._data / "models" / self.labels / "diary"

    @property
    def checkpoint(self) -> Path:
        """The state of a finetuning that runs."""
        return self._data / "checkpoints" / self.labels / "finetune"

    def history(self, model: str) -> Path:
        return self._results / "history" / f"{model}.csv"

    def grid(self, model: str) -> Path:
        """What each combination of a grid of heads gave."""
        return self._results / "history" / f"{model}_grid.csv"

    def val_predictions(self, model: str, of: str = "videos") -> Path:
        """Of the data set's `videos`, or of annotated `recordings`."""
        return self._data / "predictions" / self.labels / "val" / f"{model}_{of}.npz"

    def test_predictions(self, model: str, of: str = "videos") -> Path:
        return self._data / "predictions" / self.labels / "test" / f"{model}_{of}.npz"

    @property
    def attentive_predictions(self) -> Path:
        """val.npz and test.npz of the attentive head, where a profile asks for it."""
        return self._data / "predictions" / self.labels / "attentive"

    @property
    def clip_predictions(self) -> Path:
        """val.npz and test.npz of CLIP, where a profile names a checkpoint."""
        return self._data / "predictions" / self.labels / "clip"

    def sweep(self, model: str) -> Path:
        return self._results / "sweep" / f"{model}.json"

    def sweep_curve(self, model: str) -> Path:
        return self._results / "sweep" / f"{model}.csv"

    def decoding(self, model: str) -> Path:
        """How the model's probabilities become events."""
        return self._results / "sweep" / f"{model}_decoding.json"

    @property
    def limits(self) -> Path:
        """From where a window is not recognisable."""
        return self._results / "sweep" / "limits.json"

    def metrics(self, model: str) -> Path:
        """The few scores that DVC compares."""
        return self._results / f"{model}.json"

    @property
    def scores(self) -> Path:
        """All models' scores on test, and how sure they are."""
        return self._results / "scores.json"

    @property
    def seeds(self) -> Path:
        """The scores of heads that were trained with other seeds."""
        return self._results / "seeds.json"

    @property
    def report(self) -> Path:
        """The page; git ignores it, since it names this machine."""
        return self._results / "report.html"

    @property
    def report_text(self) -> Path:
        """The same as Markdown, for git and pull requests."""
        return self._results / "report.md"

    @property
    def curves(self) -> Path:
        """What the report draws, for `dvc plots`."""
        return self._results / "curves"

    @property
    def examples(self) -> Path:
        """Pictures of test videos for the page: apart from it, since a licence may forbid to pass them on."""
        return self._data / "examples" / self.labels

    @property
    def diaries(self) -> Path:
        return self._results / "diary"

    @property
    def output_roots(self) -> tuple[Path, Path]:
        """The two folders that all outputs of this profile lie in."""
        return self._data, self.root / "results" / self.profile

    @property
    def _data(self) -> Path:
        return self.root / "data" / self.profile

    @property
    def _results(self) -> Path:
        return self.root / "results" / self.profile / self.labels
