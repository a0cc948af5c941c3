"""Stage 2 learns from what people said of recordings, where it is asked to; what nobody judged is masked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from torch import Tensor

from features.files import sha256_of
from features.video import Segment
from heads import weights
from pipeline.dataset.judged import JudgedRecording, JudgedVideo, read_judged, write_judged
from pipeline.stages import finetune
from tests.learning_world import make_project, run_train, say, whole_review
from tests.test_finetuning import LABELS, Stages, World, world

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

__all__ = ["world"]

ON = [(LABELS[0], Segment(0.0, 2.0))]


@pytest.fixture(scope="module")
def stages(world: World, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """A project with source video, whose recording "home.mp4" is a video that nothing else trains on."""
    made = Stages.written(world, tmp_path_factory.mktemp("corrections"), source="video")
    shutil.copyfile(world.sources["v5"].path, made.paths.recordings / "home.mp4")
    return made


def judge(stages: Stages, judged: Sequence[tuple[str, Segment]]) -> None:
    """Say that the first label is on for two seconds, and off where it is judged beside; so of other labels."""
    path = stages.paths.judged_recordings / "home.mp4"
    windows = tuple(stages.world.windows["v5"])
    recording = JudgedRecording(sha256_of(path), windows, JudgedVideo(ON, [*ON, *judged]))
    write_judged(stages.paths.judged, {"home.mp4": recording}, repeats=2)


def trained(stages: Stages) -> dict[str, Tensor]:
    assert "finetuned from video for 12 steps" in stages.run(finetune.main)
    return weights.load(stages.paths.model("finetune"), expected={})[0]


def test_the_stage_learns_from_what_is_judged_alone(stages: Stages) -> None:
    """Another judgement, other weights; an unknown label is no negative."""
    write_judged(stages.paths.judged, {}, repeats=1)
    without = trained(stages)
    everything = Segment(0, 100)
    judge(stages, [])
    unknown = trained(stages)
    judge(stages, [(label, everything) for label in LABELS[1:]])
    negative = trained(stages)
    head = next(name for name in without if name.endswith("linear.bias"))
    assert all(value.isfinite().all() for value in unknown.values())
    assert not without[head].equal(unknown[head])
    # Labels that are judged to be off everywhere become less likely than those of which nothing is known.
    assert (negative[head][1:] < unknown[head][1:]).all()


def test_targets_are_of_any_segment() -> None:
    """On, off, and unknown, as a window that begins late needs them."""
    video = JudgedVideo(ON, [*ON, (LABELS[0], Segment(2, 4)), (LABELS[1], Segment(0, 1))])
    segments = [Segment(0.1, 1.0), Segment(2.5, 3.5), Segment(3.5, 4.5), Segment(0, 2)]
    found = video.targets(segments, LABELS[:2], min_overlap_s=0.4).tolist()
    assert str(found) == "[[1.0, 0.0], [0.0, nan], [nan, nan], [1.0, nan]]"


def test_what_cannot_teach_is_refused_in_a_sentence(stages: Stages, world: World, tmp_path: Path) -> None:
    """A file that is another one by now, and block inputs, which recordings have none of."""
    judge(stages, [])
    home = stages.paths.recordings / "home.mp4"
    before = home.read_bytes()
    home.write_bytes(before + b"\0")
    assert "is not the file that was reviewed" in stages.run(finetune.main)
    home.unlink()
    assert "is not the file that was reviewed" in stages.run(finetune.main)
    home.write_bytes(before)
    path = stages.root / "params" / "demo.yaml"
    values = YAML(typ="safe").load(path)
    values["finetune"]["source"] = "block_inputs"
    YAML(typ="safe").dump(values, path)
    output = stages.run(finetune.main)
    assert output.startswith("exit 1")
    assert "set finetune.source to video, or corrections.finetune to false" in output


def test_train_leaves_it_for_stage_2_where_it_is_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing, so that corrections leave stage 2 as it is; never of val or test."""
    paths = make_project(tmp_path / "project")
    say(paths.corrections_file, *whole_review("home.mp4", 40), *whole_review("val/a.mp4", 41))
    run_train(paths, monkeypatch)
    assert read_judged(paths.judged) == ({}, 1)
    params = paths.root / "params" / "tiny.yaml"
    values = json.loads(params.read_text())
    values["corrections"] |= {"finetune": True}
    params.write_text(json.dumps(values))
    run_train(paths, monkeypatch)
    assert paths.judged.stat().st_mode & 0o077 == 0
    judged, repeats = read_judged(paths.judged)
    assert (list(judged), repeats) == (["home.mp4"], 3)
    assert judged["home.mp4"].windows == tuple(range(39))
    assert {label for label, _ in judged["home.mp4"].video.on} == {"sit", "cup"}
