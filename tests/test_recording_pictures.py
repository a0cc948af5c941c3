"""What recognition keeps of a recording's pictures: numbers of windows and thumbnails, decoded once."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from features.backbone import best_device
from features.cache import EmbeddingCache
from features.clips import ClipReader, Source, VideoClips
from features.decode.container import UnreadableVideo
from features.extraction import BlockInputSelection, extract
from features.pictures import WindowPictures, picture_numbers
from features.preprocess import Preprocessing
from features.thumbnails import Thumbnail, Thumbnails
from pipeline.model_folder import load_recogniser
from pipeline.recognition import SequenceModel, WindowModel
from tests.model_folders import PLAN, make_model_folder
from tests.videos import evenly, number_of, write_video

PREPROCESSING = Preprocessing(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def opened(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)))


@pytest.fixture(scope="module")
def tea(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds of numbered frames, 480 pixels wide."""
    return write_video(tmp_path_factory.mktemp("videos") / "tea.mp4", evenly(61, 12), size=(480, 360))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Model folders, by whether the head is temporal."""
    return {temporal: make_model_folder(tmp_path_factory.mktemp("m"), temporal=temporal) for temporal in (False, True)}


def test_clips_bring_a_thumbnail_of_their_middle(tea: Path) -> None:
    """The whole frame that is shown at the window's middle, small; the last window ends before its middle."""
    reader = ClipReader(PLAN, PREPROCESSING, "pyav")
    clips = list(reader.clips(Source("tea", tea, thumbnails=True)))
    middles_s = [clip.window * PLAN.stride_s + 0.5 for clip in clips]
    thumbnails = [clip.thumbnail for clip in clips if clip.thumbnail is not None]
    assert [thumbnail.time_s for thumbnail in thumbnails] == [time_s for time_s in middles_s if time_s <= 61 / 12]
    for thumbnail in thumbnails:
        picture = opened(thumbnail.jpeg)
        assert picture.shape == (180, 240, 3)
        assert number_of(picture) == round(thumbnail.time_s * 12)
    assert all(clip.numbers == picture_numbers(clip.frames) for clip in clips)
    assert all(clip.thumbnail is None for clip in reader.clips(Source("tea", tea)))


@pytest.mark.parametrize("num_frames", [1, 5])
def test_a_video_that_ends_before_its_first_middle_has_its_first_frame(tmp_path: Path, num_frames: int) -> None:
    """There is always a thumbnail."""
    path = write_video(tmp_path / "short.mp4", evenly(num_frames, 12))
    (clip,) = ClipReader(PLAN, PREPROCESSING, "pyav").clips(Source("short", path, thumbnails=True))
    assert clip.thumbnail is not None
    assert clip.thumbnail.time_s == 0.0
    assert number_of(opened(clip.thumbnail.jpeg)) == 0


def test_windows_that_a_pause_lies_in_cost_no_other_its_thumbnail(tmp_path: Path) -> None:
    """After a pause windows have their own middles; thumbnails' times ascend."""
    path = write_video(tmp_path / "pause.mp4", [*evenly(30, 12), *evenly(30, 12, start_s=7.1)])
    clips = list(ClipReader(PLAN, PREPROCESSING, "pyav").clips(Source("pause", path, thumbnails=True)))
    times_s = {clip.window: clip.thumbnail.time_s for clip in clips if clip.thumbnail is not None}
    assert times_s == {window: window * PLAN.stride_s + 0.5 for window in times_s}
    assert len(times_s) >= len(clips) - 1
    assert any(time_s > 7.1 for time_s in times_s.values())


def test_a_small_picture_is_not_enlarged() -> None:
    assert opened(Thumbnail.of(np.zeros((20, 30, 3), np.uint8), 0.0).jpeg).shape == (20, 30, 3)


def test_large_frames_are_sampled_for_their_numbers() -> None:
    """Brightness, contrast and motion of a picture do not depend on its size."""
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    large = small.repeat(4, axis=1).repeat(4, axis=2)
    assert picture_numbers(large) == pytest.approx(picture_numbers(small), abs=1e-6)


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("temporal", [False, True])
def test_recognition_brings_pictures_thumbnails_and_vectors(
    temporal: bool, num_workers: int, models: dict[bool, Path], tea: Path
) -> None:
    """Of each window, whichever model looks; the frozen backbone's vectors are the same from both."""
    seen = load_recogniser(models[temporal]).model.recognise(tea, batch_size=4, num_workers=num_workers)
    clips = list(ClipReader(PLAN, PREPROCESSING, "auto").clips(Source("tea", tea, thumbnails=True)))
    expected = WindowPictures.of([clip.numbers for clip in clips if clip.numbers is not None])
    for name in ("brightness", "contrast", "motion"):
        assert np.array_equal(getattr(seen.pictures, name), getattr(expected, name))
    assert list(seen.thumbnails.jpegs) == [clip.thumbnail.jpeg for clip in clips if clip.thumbnail is not None]
    other = load_recogniser(models[not temporal]).model.recognise(tea, batch_size=4, num_workers=0)
    assert set(seen.vectors) == {"pooler", "mean", "max"}
    for name, vectors in seen.vectors.items():
        assert vectors.shape == (len(seen.windows), 32)
        assert vectors.dtype == np.float16
        assert np.array_equal(vectors, other.vectors[name])


def test_a_finetuned_block_leaves_the_frozen_vectors_as_they_are(models: dict[bool, Path], tea: Path) -> None:
    """The action model may have another last block; the frozen backbone keeps its own."""
    model = load_recogniser(models[False]).model
    assert isinstance(model, WindowModel)
    before = model.recognise(tea, batch_size=4, num_workers=0)
    with torch.no_grad():
        for parameter in model.model.tail.last_block.parameters():
            parameter.mul_(3)
        weight = model.model.tail.head.linear.weight
        weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    after = model.recognise(tea, batch_size=4, num_workers=0)
    assert not np.array_equal(after.probabilities, before.probabilities)
    assert all(np.array_equal(after.vectors[name], before.vectors[name]) for name in before.vectors)


class NeverRead(ClipReader):
    """A reader whose decoder is broken."""

    def clips(self, source: Source) -> VideoClips:
        raise UnreadableVideo(source.path, "it was decoded", "a broken decoder")


def test_a_second_look_decodes_nothing(models: dict[bool, Path], tea: Path, tmp_path: Path) -> None:
    """With another head the cache has all: embeddings, pictures and thumbnails."""
    model = load_recogniser(models[True]).model
    assert isinstance(model, SequenceModel)
    model = replace(model, cache=EmbeddingCache(tmp_path, model.cache.provenance))
    first = model.recognise(tea, batch_size=4, num_workers=0)
    again = replace(model, reader=NeverRead(PLAN, PREPROCESSING, "pyav"))
    second = again.recognise(tea, batch_size=4, num_workers=0)
    assert list(second.thumbnails.jpegs) == list(first.thumbnails.jpegs)
    assert len(first.thumbnails.jpegs) > 5
    assert np.array_equal(second.thumbnails.times_s, first.thumbnails.times_s)
    assert np.array_equal(second.pictures.motion, first.pictures.motion)
    assert np.array_equal(second.probabilities, first.probabilities)
    for piece in model.cache.folder.glob("*.safetensors"):
        piece.unlink()
    with pytest.raises(UnreadableVideo, match="broken decoder"):
        again.recognise(tea, batch_size=4, num_workers=0)


def test_embeddings_without_thumbnails_are_not_computed_again(
    models: dict[bool, Path], tea: Path, tmp_path: Path
) -> None:
    """A data set's extraction keeps no thumbnails; where a recording lacks them it is decoded once more for them."""
    model = load_recogniser(models[True]).model
    assert isinstance(model, SequenceModel)
    cache = EmbeddingCache(tmp_path, model.cache.provenance)

    def pieces(*, thumbnails: bool) -> dict[str, int]:
        with cache.locked():
            extract(
                model.backbone,
                [Source("tea", tea), Source("copy", tea)],
                model.reader,
                cache=cache,
                selection=BlockInputSelection({}, "fp32"),
                batch_size=4,
                num_workers=0,
                device=best_device(),
                thumbnails=thumbnails,
            )
        return {path.name.partition(".")[2]: path.stat().st_ino for path in cache.folder.glob("*.safetensors")}

    without = pieces(thumbnails=False)
    assert set(without) == {"safetensors"}
    late = pieces(thumbnails=True)
    assert set(late) == {"safetensors", "thumbnails-240.safetensors"}
    assert late["safetensors"] == without["safetensors"]
    assert pieces(thumbnails=True) == late
    (digest,) = {path.name[:64] for path in cache.folder.glob("*.safetensors")}
    late_jpegs = list(cache.load_thumbnails(digest).jpegs)
    for path in cache.folder.glob("*.safetensors"):
        path.unlink()
    pieces(thumbnails=True)
    assert list(cache.load_thumbnails(digest).jpegs) == late_jpegs


def test_no_thumbnails_are_kept_too(tmp_path: Path) -> None:
    """Of a video that has none, none come back."""
    cache = EmbeddingCache(tmp_path, {"made": "by nobody"})
    with cache.locked():
        cache.put_thumbnails("0" * 64, Thumbnails.none())
        assert cache.has_thumbnails("0" * 64)
        assert cache.load_thumbnails("0" * 64).nearest(1.0) is None
