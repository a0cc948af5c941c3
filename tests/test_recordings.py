"""Annotated recordings: ids, splits and truth files; and what recognises them, from cached embeddings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from features.cache import EmbeddingCache
from features.video import Segment
from pipeline.dataset.manifest import Action
from pipeline.dataset.recordings import TruthError, read_truth, recording_paths, true_actions
from pipeline.model_folder import load_recogniser
from pipeline.recognition import SequenceModel, WindowModel
from tests.model_folders import make_model_folder
from tests.videos import evenly, write_video


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Two annotated recordings, one of each split, and one that nobody annotated."""
    for name in ("val/tea", "test/noon", "test/night"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_video(tmp_path / f"{name}.mp4", evenly(12, 12))
    (tmp_path / "val/tea.truth.csv").write_text("start_s,end_s,label\n0.5,1.0,sit\n0.0,0.25,eat\n")
    (tmp_path / "test/noon.truth.csv").write_text("start_s,end_s,label\n")
    return tmp_path


def test_recordings_are_known_by_their_path(recordings: Path) -> None:
    """Truth files are no videos; an empty or missing folder has none."""
    assert list(recording_paths(recordings)) == ["test/night.mp4", "test/noon.mp4", "val/tea.mp4"]
    assert recording_paths(recordings / "nowhere") == {}
    (recordings / "empty").mkdir()
    assert recording_paths(recordings / "empty") == {}


def test_only_annotated_recordings_of_the_split_have_a_truth(recordings: Path) -> None:
    """In order of time; nothing happening is a truth, too. Recordings that were not embedded are left out."""
    ids = set(recording_paths(recordings))
    assert true_actions(recordings, "val", ids) == {
        "val/tea.mp4": (Action("eat", Segment(0.0, 0.25)), Action("sit", Segment(0.5, 1.0)))
    }
    assert true_actions(recordings, "test", ids) == {"test/noon.mp4": ()}
    assert true_actions(recordings, "val", ids - {"val/tea.mp4"}) == {}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("start_s,end_s,label\n0,1,sit\n3,2,sit\n", 3),
        ("start_s,end_s,label\n-1,2,sit\n", 2),
        ("start_s,end_s,label\n1,inf,sit\n", 2),
        ("start_s,end_s,label\n1,two,sit\n", 2),
        ("start_s,end_s,label\n1,2\n", 2),
        ("begin,end\n1,2\n", 2),
        ("start_s,end_s,label\n1,2,\n", 2),
    ],
)
def test_a_truth_file_that_cannot_be_used_is_told_by_line(tmp_path: Path, text: str, line: int) -> None:
    """Path, line and what is wanted."""
    path = tmp_path / "tea.truth.csv"
    path.write_text(text)
    with pytest.raises(TruthError, match=rf"tea\.truth\.csv:{line}: wanted start_s,end_s,label"):
        read_truth(path)


def test_a_temporal_model_decodes_a_recording_once(tmp_path: Path) -> None:
    """A second look comes from the cache, with the same windows, probabilities and end."""
    windows = load_recogniser(make_model_folder(tmp_path / "linear")).model
    assert isinstance(windows, WindowModel)
    temporal = load_recogniser(make_model_folder(tmp_path / "temporal", temporal=True)).model
    assert isinstance(temporal, SequenceModel)
    temporal = replace(temporal, cache=EmbeddingCache(tmp_path / "cache", temporal.cache.provenance))
    video = write_video(tmp_path / "tea.mp4", evenly(36, 12))
    first = temporal.recognise(video, batch_size=4, num_workers=0)
    assert first.windows == windows.recognise(video, batch_size=4, num_workers=0).windows
    assert first.probabilities.shape == (len(first.windows), 2)
    assert first.end.end_s == pytest.approx(3.0)
    (piece,) = temporal.cache.folder.glob("?" * 64 + ".safetensors")
    inode = piece.stat().st_ino
    again = temporal.recognise(video, batch_size=4, num_workers=0)
    assert piece.stat().st_ino == inode  # not computed again
    assert (again.windows, again.end) == (first.windows, first.end)
    assert (again.probabilities == first.probabilities).all()
