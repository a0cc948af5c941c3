"""Probabilities that heads give of stored embeddings, in the order of their rows; and predictions made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from features.store.embeddings import Embeddings
from heads.linear import LinearHead
from heads.predictions import Predictions
from heads.temporal import TemporalEnsemble, predict_sequence
from heads.training.sequences import sequences_of
from pipeline.dataset.truth import SplitTruth


def linear_probabilities(head: LinearHead, embeddings: Embeddings, features: Sequence[str]) -> npt.NDArray[np.float32]:
    """Each window by itself: (n, L)."""
    with torch.inference_mode():
        probabilities: npt.NDArray[np.float32] = (
            head(torch.from_numpy(embeddings.side_by_side(features))).sigmoid().numpy()
        )
    return probabilities


def temporal_probabilities(
    head: TemporalEnsemble, embeddings: Embeddings, features: Sequence[str], *, stride_s: float
) -> npt.NDArray[np.float32]:
    """Each video by itself, (n, L): they lie further apart than the head reaches."""
    nothing = np.zeros((len(embeddings), head.num_labels), dtype=np.bool_)
    if not len(embeddings):
        return nothing.astype(np.float32)
    sequences = sequences_of(embeddings, nothing, features=features, stride_s=stride_s)
    steps = sequences.steps_apart(head.shape.reach)
    probabilities: npt.NDArray[np.float32] = predict_sequence(head, sequences.features, steps).sigmoid().numpy()
    return probabilities


def predictions_of(
    truth: SplitTruth,
    probabilities: npt.NDArray[np.float32],
    *,
    model_sha256: str,
    distances: npt.NDArray[np.float32] | None = None,
) -> Predictions:
    """Probabilities (n, L) of all windows of a split, with what is true of them; `distances` (n,) where known."""
    rows = truth.embeddings
    return Predictions(
        labels=truth.labels,
        video_ids=rows.video_ids,
        window=rows.window,
        start_s=rows.start_s,
        end_s=rows.end_s,
        probabilities=probabilities,
        targets=truth.windows,
        videos=np.array(truth.video_ids, dtype=np.str_),
        # Reversed intervals have no time, so a video may carry a label that none of its windows does.
        video_targets=truth.videos,
        model_sha256=model_sha256,
        distances=np.empty(0, dtype=np.float32) if distances is None else distances,
    )
