"""A video with a pause through extraction, store, training plans and events: all leave the same windows out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from features.backbone import load_backbone
from features.cache import EmbeddingCache
from features.clips import ClipReader, Source
from features.extraction import BlockInputSelection, extract, provenance
from features.store.embeddings import VideoEmbeddings, read_embeddings, write_embeddings
from features.video import Segment, WindowPlan
from heads.training.batches import frame_batches, plan_batches
from pipeline.dataset.manifest import Interval, Manifest, VideoEntry
from pipeline.dataset.truth import split_truth
from pipeline.dataset.windows import block_input_windows
from reports.events import EventRule, find_events, observed
from tests.tiny_backbone import PREPROCESSING, write_backbone
from tests.videos import evenly, write_video

PLAN = WindowPlan(num_frames=4, sample_fps=4, stride_s=0.5, max_still_s=1.0)
READER = ClipReader(PLAN, PREPROCESSING, "pyav")
WINDOWS = (0, 1, 2, 3, 4, 24, 25, 26)
"""Of two seconds of video, a pause until 12 s, and two seconds more."""


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "v.mp4", evenly(24, 12) + evenly(24, 12, start_s=12.0))


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_extraction_leaves_windows_out_and_keeps_the_others_numbers(video: Path, tmp_path: Path) -> None:
    """Cache, store and block inputs have the windows' own numbers, in the cache's second run too."""
    write_backbone(tmp_path / "backbone")
    backbone = load_backbone(tmp_path / "backbone", dtype=torch.float32)
    made_by = provenance(backbone, READER)
    assert json.loads(json.dumps(made_by))["windows"]["max_still_s"] == 1.0
    cache = EmbeddingCache(tmp_path / "cache", made_by)
    wanted = frozenset({1, 10, 25})
    with cache.locked():
        for num_embedded in (1, 0):
            extraction = extract(
                backbone,
                [Source("v", video)],
                READER,
                cache=cache,
                selection=BlockInputSelection({"v": wanted}, "fp16"),
                batch_size=3,
                num_workers=0,
                device=torch.device("cpu"),
            )
            assert extraction.num_embedded == num_embedded
            assert extraction.num_windows == {"v": len(WINDOWS)}
            assert extraction.block_input_windows == {"v": (1, 25)}
        write_embeddings(
            tmp_path / "store", extraction.num_windows, lambda _: cache.load(extraction.sha256s["v"]), provenance={}
        )
    embeddings, _ = read_embeddings(tmp_path / "store")
    assert embeddings.keys == [("v", window) for window in WINDOWS]
    assert embeddings.start_s.tolist() == [window / 2 for window in WINDOWS]

    actions = (Interval("c001", 0.0, 20.0), Interval("c002", 13.0, 14.0))
    entries = (VideoEntry("v", "v.mp4", "s", "Kitchen", "train", 14.0, actions),)
    truth = split_truth(embeddings, Manifest(entries), "train", ["c001", "c002"], min_overlap_s=0.5)
    assert truth.windows_of == {"v": WINDOWS}
    assert truth.target_at("v", 26).tolist() == [True, True]
    assert truth.target_at("v", 4).tolist() == [True, False]
    asked = block_input_windows(Manifest(entries), PLAN, num_clips=1000, evaluate_windows=5)
    assert asked["v"] >= set(WINDOWS)


def test_training_from_video_draws_the_same_windows(video: Path) -> None:
    """Batches from video hold the windows that were embedded; late starts draw none that may touch the pause."""
    source = Source("v", video)
    for start_frames in (1, 2):
        plan = plan_batches(
            [source],
            {"v": WINDOWS},
            steps=8,
            batch_size=4,
            windows_per_pass=8,
            buffer_size=16,
            start_frames=start_frames,
            mirrored_share=0.0,
            generator=torch.Generator().manual_seed(0),
        )
        late = [item.window for batch in plan.batches for item in batch if plan.passes[item.pass_number].first_frame]
        assert set(late) == (set() if start_frames == 1 else {0, 1, 2, 3, 24, 25})
        seen: list[Segment] = []

        def target_of(video_id: str, segment: Segment, seen: list[Segment] = seen) -> np.ndarray:
            seen.append(segment)
            return np.ones(1, np.bool_)

        batches = frame_batches(plan, READER, target_of, num_workers=0)(0)
        frames = [next(batches)[0] for _ in plan.batches]
        assert sum(map(len, frames)) == 32
        assert all(each.end_s <= 3.0 or each.start_s >= 12.0 for each in seen)


def test_a_video_of_lone_windows_is_read_from_its_beginning(video: Path) -> None:
    """Where every window may end at a pause, no pass begins late, and the plan is still made."""
    plan = plan_batches(
        [Source("v", video)],
        {"v": (0, 7, 9)},
        steps=4,
        batch_size=2,
        windows_per_pass=3,
        buffer_size=4,
        start_frames=5,
        mirrored_share=0.0,
        generator=torch.Generator().manual_seed(0),
    )
    assert {source.first_frame for source in plan.passes} == {0}


def test_events_do_not_cross_what_is_not_observed() -> None:
    """With the windows around a pause, observed time has a hole, and no rule merges events over it."""
    windows = [Segment(window / 2, window / 2 + 1.0) for window in WINDOWS]
    seen = observed(windows)
    assert seen == [Segment(0.0, 3.0), Segment(12.0, 14.0)]
    rule = EventRule(onset=0.5, offset=0.4, min_duration_s=0.0, merge_gap_s=100.0)
    result = find_events("v", windows, np.full((len(windows), 1), 0.9), ["c1"], {"c1": rule}, stride_s=0.5)
    assert [event.segment for event in result.events] == seen


def test_rows_of_a_store_have_their_windows_numbers() -> None:
    """Numbers that do not ascend, or come twice, are refused."""
    for numbers in ([1, 1], [2, 1], [-1, 0]):
        with pytest.raises(ValueError, match="window numbers ascend"):
            VideoEmbeddings(np.array(numbers, np.int32), np.arange(2.0), np.arange(2.0) + 1, np.zeros(2, np.int32), {})
