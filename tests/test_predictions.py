import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heads.predictions import Predictions


@pytest.fixture
def predictions() -> Predictions:
    """Two videos: A1 with windows at 0 and 2 s, B2 with one; label c059 is B2's without a time."""
    return Predictions(
        labels=("c015", "c059"),
        video_ids=np.array(["A1", "A1", "B2"]),
        window=np.array([0, 1, 0], dtype=np.int32),
        start_s=np.array([0.0, 2.0, 0.0]),
        end_s=np.array([4.0, 5.5, 3.0]),
        probabilities=np.array([[0.1, 0.9], [0.6, 0.2], [0.3, 0.4]], dtype=np.float32),
        targets=np.array([[False, True], [True, False], [False, False]]),
        videos=np.array(["A1", "B2"]),
        video_targets=np.array([[True, True], [False, True]]),
    )


def test_a_video_scores_the_maximum_over_its_windows(predictions: Predictions) -> None:
    """by_video gives each label's maximum over the windows, and the video's own targets."""
    probabilities, targets = predictions.by_video()
    np.testing.assert_array_equal(probabilities, np.array([[0.6, 0.9], [0.3, 0.4]], dtype=np.float32))
    assert targets.tolist() == [[True, True], [False, True]]


def test_predictions_come_back_from_disk_as_they_were(predictions: Predictions, tmp_path: Path) -> None:
    """What is loaded equals what was saved, in every field and dtype, and holds no pickle."""
    predictions.save(tmp_path / "val.npz")
    loaded = Predictions.load(tmp_path / "val.npz")
    for field in dataclasses.fields(Predictions):
        before, after = getattr(predictions, field.name), getattr(loaded, field.name)
        assert np.asarray(before).dtype == np.asarray(after).dtype
        np.testing.assert_array_equal(before, after)
    assert loaded.labels == ("c015", "c059")
    assert [path.name for path in tmp_path.iterdir()] == ["val.npz"]


def test_the_same_predictions_are_the_same_bytes(predictions: Predictions, tmp_path: Path) -> None:
    """The file does not depend on the time of writing."""
    predictions.save(tmp_path / "a.npz")
    predictions.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"window": np.array([1, 0, 0])}, r"sorted.*row 1 is \('A1', 0\) after \('A1', 1\)"),
        ({"window": np.array([1, 1, 0])}, "unique"),
        ({"end_s": np.array([4.0, 2.0, 3.0])}, "end after it starts"),
        ({"videos": np.array(["A1", "C3"])}, r"\['B2', 'C3'\]"),
        ({"labels": ("c015", "c015")}, "unique labels"),
        ({"labels": ("c015",)}, "probabilities must be"),
        ({"probabilities": np.array([[0.1, 0.9], [np.nan, 0.2], [0.3, 0.4]], np.float32)}, r"row 1, \('A1', 1\)"),
        ({"probabilities": np.array([[0.1, 0.9], [0.6, 0.2], [0.3, 1.1]], np.float32)}, r"row 2, \('B2', 0\)"),
        ({"video_ids": np.array(["A1", "A1", "B2"], dtype=object)}, "kind 'U'"),
        ({"video_targets": np.array([[True, False], [False, True]])}, "its video does not"),
    ],
)
def test_predictions_that_do_not_fit_together_are_refused(
    predictions: Predictions, change: dict[str, Any], sentence: str
) -> None:
    """Wrong shapes, order, keys, values or targets raise when made, with their position."""
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(predictions, **change)
