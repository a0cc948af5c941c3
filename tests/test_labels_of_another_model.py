"""Labels of one's own look at what a model's head sees: with another model they are learned again, and none is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from features.files import locked
from features.sealed import write_sealed_json
from pipeline.diaries.output import OutputFolder
from pipeline.model_folder import load_recogniser
from pipeline.recordings import restate_diaries
from tests.model_folders import make_model_folder
from tests.test_label_command import Home

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with one label, learned from three stretches of the first video."""
    home = Home(tmp_path_factory.mktemp("home"))
    added = home.add("4-8", "12-16", "20-24")
    assert added.exit_code == 0, added.output
    return home


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the same backbone, with another head."""
    return make_model_folder(tmp_path_factory.mktemp("other"), temporal=True, seed=1)


def stored(home: Home) -> dict[str, Any]:
    (label,) = json.loads((home.diaries / "labels.json").read_text())["labels"]
    return dict(label)


def is_told(home: Home) -> bool:
    """Whether the second video's diary has the label where it is red, from 10 to 14 s."""
    events = home.own_events("second")
    return len(events) == 1 and abs(events[0][2] - 10) < 1 and abs(events[0][3] - 14) < 1


def test_with_another_head_a_label_is_learned_again(home: Home, other_model: Path) -> None:
    """By `write` and by `like`, without the video that it was learned from."""
    home.write()
    before = stored(home)
    assert is_told(home)
    hidden = home.first.rename(home.first.with_name("away"))
    try:
        near = home.label("like", "Red light!", "-n", 1, "--model", other_model)
        assert near.exit_code == 0, near.output
        assert "second.mp4" in near.output
        after = stored(home)
        assert after["learned_with"] != before["learned_with"]
        assert after["weights"] != before["weights"]
        assert after["examples"] == before["examples"]
    finally:
        hidden.rename(home.first)
    home.write(other_model)
    assert is_told(home)
    home.write()
    assert is_told(home)
    assert stored(home) == before


def test_diaries_that_are_stated_anew_tell_it(home: Home, other_model: Path) -> None:
    """As `diary learn` does, with another head and without reading a video."""
    home.write()
    output = OutputFolder(home.diaries)
    with locked(home.diaries):
        restated, failures = restate_diaries(output, load_recogniser(other_model))
    assert (len(restated), failures) == (2, [])
    assert is_told(home)


def test_a_file_of_the_first_version_goes_on(home: Home) -> None:
    """It says nothing of the model, so what it was learned from is learned again."""
    home.write()
    before = stored(home)
    old = {key: value for key, value in before.items() if key != "learned_with"} | {"weights": [0.0] * 192}
    write_sealed_json(home.diaries / "labels.json", {"version": 1, "provenance": {}, "labels": [old]})
    assert "3 stretches; left out in turn" in home.label("list").output
    home.write()
    assert is_told(home)
    assert stored(home) == before


def test_a_label_whose_videos_are_not_in_the_cache_is_kept_and_not_told(
    home: Home, other_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what to do; once the diaries are written, it can be learned."""
    home.write()
    before = stored(home)
    monkeypatch.setenv("VIDEO_DIARY_CACHE", str(tmp_path / "cache"))
    refused = home.label("like", "Red light!", "--model", other_model)
    assert refused.exit_code == 1
    assert "cannot be learned for this model" in refused.output
    said = home.write(other_model)
    assert "3 of its 3 stretches are of videos of which the cache has nothing" in said
    assert home.own_events("second") == []
    assert stored(home) == before
    home.write(other_model)
    assert is_told(home)
