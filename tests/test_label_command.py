"""`diary label`: an activity that no model knows, from a few stretches to the diary."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result

from pipeline.cli.__main__ import main
from tests.model_folders import make_model_folder

LENGTH_S, RATE = 30, 8


def film(path: Path, red_s: list[tuple[float, float]], seed: int) -> None:
    """A video of blurred noise that is red for some seconds."""
    random = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, RATE)
        for number in range(LENGTH_S * RATE):
            picture = random.integers(0, 120, (6, 8, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
            if any(start <= number / RATE < end for start, end in red_s):
                picture[..., 0] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


class Home:
    """Two videos, of which one is red from 4 to 8, 12 to 16 and 20 to 24 s, the other from 10 to 14 s."""

    def __init__(self, folder: Path) -> None:
        self.model = make_model_folder(folder, temporal=True, seed=0)
        self.first, self.second = folder / "first.mp4", folder / "second.mp4"
        film(self.first, [(4, 8), (12, 16), (20, 24)], seed=1)
        film(self.second, [(10, 14)], seed=2)
        self.diaries = folder / "diaries"
        self.write()

    def write(self, model: Path | None = None) -> str:
        """Write the diaries of both videos, with another model where one is named; returns what was said."""
        result = CliRunner().invoke(
            main,
            ["write", "--model", str(model or self.model), str(self.first), str(self.second), "-o", str(self.diaries)],
        )
        assert result.exit_code == 0, result.output
        return result.output

    def label(self, command: str, *arguments: object) -> Result:
        return CliRunner().invoke(main, ["label", command, *map(str, arguments), "--in", str(self.diaries)])

    def add(self, *stretches: str, name: str = "Red light!") -> Result:
        options = [each for stretch in stretches for each in ("--from", self.first, stretch)]
        return self.label("add", name, *options, "--model", self.model)

    def own_events(self, recording: str) -> list[tuple[str, str, float, float]]:
        lines = (self.diaries / recording / "events.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        return [
            (row["label"], row["name"], row["start_s"], row["end_s"])
            for row in rows
            if row["type"] == "event" and row["label"].startswith("own-")
        ]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("home"))


@pytest.mark.slow
def test_an_activity_of_ones_own_comes_into_the_diary(home: Home) -> None:
    """Learned from one video, told of another; listed, found in all recordings, extended and removed."""
    assert home.own_events("second") == []
    assert "no labels of your own yet" in home.label("list").output
    first = json.loads((home.diaries / "first" / "events.jsonl").read_text().splitlines()[0])
    began = datetime.fromisoformat(first["start_clock"])
    by_clock = "-".join(f"{began + timedelta(seconds=second):%H:%M:%S.%f}" for second in (4, 8))
    few = home.add(by_clock, "00:00:12-00:00:16")
    assert few.exit_code == 0, few.output
    assert "2 stretches, too few to say" in few.output
    more = home.add("0:20-0:24")
    assert more.exit_code == 0, more.output
    assert "3 stretches; left out in turn" in home.label("list").output
    assert (home.diaries / "labels.json").stat().st_mode & 0o077 == 0

    near = home.label("like", "red LIGHT!", "-n", 2, "--model", home.model)
    assert near.exit_code == 0, near.output
    nearest = near.output.splitlines()[0]
    assert "second.mp4" in nearest
    assert "00:00:1" in nearest

    home.second.rename(home.second.with_name("renamed.mp4"))
    home.second = home.second.with_name("renamed.mp4")
    home.write()
    ((label, name, start_s, end_s),) = home.own_events("renamed")
    assert (label, name) == ("own-red-light", "Red light!")
    assert abs(start_s - 10) < 1
    assert abs(end_s - 14) < 1
    page = next(home.diaries.glob("*.html")).read_text()
    assert "own-red-light" in page or any("Red light!" in path.read_text() for path in home.diaries.glob("*.html"))

    removed = home.label("remove", "Red light!")
    assert removed.exit_code == 0, removed.output
    assert not (home.diaries / "labels.json").exists()
    home.write()
    assert home.own_events("renamed") == []


@pytest.mark.slow
def test_what_cannot_be_a_label_is_refused_in_a_line(home: Home, tmp_path: Path) -> None:
    """With exit status 1, and nothing is written."""
    told = {
        "a stretch is written START-END": home.add("four to eight"),
        "ends after it starts": home.add("8-4"),
        "ends at 30": home.add("50-60"),
        "a name has letters": home.add("4-8", name=" \n"),
        "the model knows 'Sitting' already": home.add("4-8", name="Sitting"),
        "there is no such file": home.label("add", "x", "--from", tmp_path / "none.mp4", "4-8", "--model", home.model),
        "there is no label 'tea'": home.label("remove", "tea"),
        "of your own here; there are: none yet": home.label("like", "tea", "--model", home.model),
        "holds no diaries": CliRunner().invoke(main, ["label", "list", "--in", str(tmp_path)]),
    }
    for message, result in told.items():
        assert result.exit_code == 1, (message, result.output)
        assert message in result.output, (message, result.output)
        assert isinstance(result.exception, SystemExit)
    assert not (home.diaries / "labels.json").exists()


@pytest.mark.slow
def test_a_file_of_labels_of_a_later_version_is_refused(home: Home) -> None:
    """With what to do about it."""
    assert home.add("4-8", "12-16", "20-24").exit_code == 0
    path = home.diaries / "labels.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 7}))
    damaged = home.label("list")
    assert damaged.exit_code == 1
    assert "labels.json cannot be used" in damaged.output
    path.unlink()
