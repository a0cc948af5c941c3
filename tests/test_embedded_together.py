"""A finetuned model embeds a new video once for its own block and the frozen one: both caches as by a pass each."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from features.backbone import best_device
from features.cache import EmbeddingCache
from features.clips import ClipReader, Source, VideoClips
from features.decode.container import UnreadableVideo
from features.extraction import BlockInputSelection, extract, provenance
from features.files import sha256_of
from pipeline.model_folder import load_recogniser
from pipeline.recognition import SequenceModel
from tests.model_folders import make_model_folder
from tests.videos import evenly, write_video

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


class CountingReader(ClipReader):
    """A reader that notes how often a video is decoded."""

    decoded: int = 0

    def clips(self, source: Source) -> VideoClips:
        type(self).decoded += 1
        return super().clips(source)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("model") / "temporal", temporal=True)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Longer than a part."""
    return write_video(tmp_path_factory.mktemp("video") / "long.mp4", evenly(490, 12))


def model_in(folder: Path, root: Path) -> SequenceModel:
    """A temporal model whose backbone has another last block than the one that it came with, and caches in `root`."""
    model = load_recogniser(folder).model
    assert isinstance(model, SequenceModel)
    own = model.backbone.with_own_last_block()
    with torch.no_grad():
        for parameter in own.last.parameters():
            parameter.mul_(1.5)
    own.weights_sha256 = hashlib.sha256(b"finetuned").hexdigest()
    reader = CountingReader(model.reader.plan, model.reader.preprocessing, model.reader.decoder)
    caches = [EmbeddingCache(root, provenance(each, reader)) for each in (own, model.backbone)]
    CountingReader.decoded = 0
    return replace(model, backbone=own, reader=reader, cache=caches[0], frozen=(model.backbone, caches[1]))


def pieces(root: Path) -> dict[str, bytes]:
    """What the caches hold of videos."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.glob("*/*.safetensors")}


def embed_apart(model: SequenceModel, video: Path, *, only_first: bool = False) -> None:
    """Fill the caches by a pass for each backbone."""
    assert model.frozen is not None
    for backbone, cache in ((model.backbone, model.cache), model.frozen)[: 1 if only_first else 2]:
        with cache.locked():
            extract(
                backbone,
                [Source("", video)],
                model.reader,
                cache=cache,
                selection=BlockInputSelection({}, "fp32"),
                batch_size=4,
                num_workers=0,
                device=best_device(),
                thumbnails=True,
            )


def test_both_caches_are_as_by_two_passes(folder: Path, video: Path, tmp_path: Path) -> None:
    """Byte for byte, with the thumbnails; the video is decoded once, and never for a second look."""
    apart = model_in(folder, tmp_path / "apart")
    embed_apart(apart, video)
    expected = pieces(tmp_path / "apart")
    assert len(expected) == 4
    assert len({path.split("/")[0] for path in expected}) == 2

    model = model_in(folder, tmp_path / "together")
    seen = model.recognise(video, batch_size=4, num_workers=0)
    assert CountingReader.decoded == 1
    assert pieces(tmp_path / "together") == expected
    again = model.recognise(video, batch_size=4, num_workers=0, video_sha256=sha256_of(video))
    assert CountingReader.decoded == 1
    assert np.array_equal(seen.probabilities, again.probabilities)
    assert len(seen.windows) > 64
    assert model.frozen is not None
    with model.frozen[1].locked():
        frozen = model.frozen[1].load(sha256_of(video))
    assert np.array_equal(seen.vectors["mean"], frozen.vectors["mean"])
    assert pieces(tmp_path / "together") == expected


def test_what_is_there_already_is_not_computed_again(folder: Path, video: Path, tmp_path: Path) -> None:
    """Where one of the caches has the video, the other one alone is filled."""
    model = model_in(folder, tmp_path)
    embed_apart(model, video, only_first=True)
    (piece, _) = sorted(tmp_path.glob("*/*.safetensors"))
    inode = piece.stat().st_ino
    model.recognise(video, batch_size=4, num_workers=0)
    assert CountingReader.decoded == 2
    assert piece.stat().st_ino == inode
    assert len(pieces(tmp_path)) == 4


def test_a_video_that_cannot_be_read_is_told_as_ever(folder: Path, tmp_path: Path) -> None:
    """And leaves nothing."""
    model = model_in(folder, tmp_path / "cache")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    for path, told in ((broken, "broken.mp4"), (tmp_path / "none.mp4", "not a file")):
        with pytest.raises(UnreadableVideo, match=told):
            model.recognise(path, batch_size=4, num_workers=0)
    assert pieces(tmp_path / "cache") == {}


def test_a_file_that_has_changed_is_kept_under_what_it_is_now(folder: Path, video: Path, tmp_path: Path) -> None:
    """A camera may write on after a run has looked at what there is: another video's hash gets nothing."""
    model = model_in(folder, tmp_path / "cache")
    model.recognise(video, batch_size=4, num_workers=0, video_sha256="0" * 64)
    kept = {path.split("/")[1].partition(".")[0] for path in pieces(tmp_path / "cache")}
    assert kept == {sha256_of(video)}
    assert model.recall("0" * 64) is None
