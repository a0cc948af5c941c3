"""Pictures of known values, compared with a slow computation that shares no code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from features.preprocess import Preprocessing, PreprocessingError
from features.video import Frame

IMAGENET = Preprocessing(crop_size=64, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def with_crop(crop_size: int) -> Preprocessing:
    return Preprocessing(crop_size=crop_size, mean=IMAGENET.mean, std=IMAGENET.std)


def picture(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Smooth colours with noise upon them, so that both a shift and a wrong filter show."""
    y, x = np.mgrid[0:height, 0:width]
    smooth = np.stack([x / width, y / height, 0.5 + 0.5 * np.sin((x + 2 * y) / 7)], axis=-1) * 200
    noise = np.random.default_rng(height * 1000 + width).uniform(0, 55, (height, width, 3))
    return (smooth + noise).astype(np.uint8)


def triangle_weights(num_in: int, num_out: int) -> npt.NDArray[np.float64]:
    """Row i: how much each input pixel counts for output pixel i; the triangle widens when the picture shrinks."""
    scale = num_in / num_out
    weights = np.zeros((num_out, num_in))
    for i in range(num_out):
        centre = (i + 0.5) * scale
        for j in range(num_in):
            weights[i, j] = max(0.0, 1 - abs(j + 0.5 - centre) / max(scale, 1.0))
    return weights / weights.sum(axis=1, keepdims=True)


def slow_resize_crop(image: npt.NDArray[np.uint8], crop_size: int) -> npt.NDArray[np.float64]:
    height, width, _ = image.shape
    edge = int(crop_size * 256 / 224)
    short = min(height, width)
    new_height, new_width = int(edge * height / short), int(edge * width / short)
    lower = np.tensordot(triangle_weights(height, new_height), image.astype(float), axes=(1, 0))
    resized = np.tensordot(lower, triangle_weights(width, new_width), axes=(1, 1)).swapaxes(1, 2)
    top, left = int((new_height - crop_size) / 2), int((new_width - crop_size) / 2)
    return resized[top : top + crop_size, left : left + crop_size]


@pytest.mark.parametrize(
    ("height", "width"),
    [(120, 213), (213, 120), (97, 97), (73, 131), (131, 75), (30, 41), (20, 20), (64, 64), (73, 73), (240, 81)],
)
def test_resize_crop_is_the_antialiased_centre_crop(height: int, width: int) -> None:
    """Landscape, portrait, odd, and smaller than the crop: within one grey level of a float64 triangle filter."""
    image = picture(height, width)
    cropped = IMAGENET.resize_crop(image)
    assert (cropped.shape, cropped.dtype) == ((64, 64, 3), np.uint8)
    difference = np.abs(cropped - np.rint(slow_resize_crop(image, 64)))
    assert difference.max() <= 1
    assert difference.mean() < 0.25


def test_the_shorter_side_is_292_for_a_crop_of_256() -> None:
    """The published checkpoint's own size file says 292, and the longer side is cut to a whole pixel."""
    assert with_crop(256).shortest_edge == 292
    # 480 x 853 becomes 292 x 518 (518.9 truncated), so the crop begins at column 131.
    columns = np.broadcast_to(np.arange(853) / 852 * 255, (480, 853))
    image = np.repeat(columns[:, :, None], 3, axis=2).astype(np.uint8)
    cropped = with_crop(256).resize_crop(image)
    expected = slow_resize_crop(image, 256)
    assert np.abs(cropped - expected).max() <= 1


def test_turned_and_read_only_pictures_are_accepted() -> None:
    """A rotated view (negative strides) and a decoder's read-only buffer give what a plain copy gives."""
    image = picture(60, 100)
    turned = np.rot90(image)
    frozen = image.copy()
    frozen.flags.writeable = False
    assert np.array_equal(IMAGENET.resize_crop(turned), IMAGENET.resize_crop(turned.copy()))
    assert np.array_equal(IMAGENET.resize_crop(frozen), IMAGENET.resize_crop(image))
    assert not np.array_equal(IMAGENET.resize_crop(turned), IMAGENET.resize_crop(image))


def test_resize_crop_leaves_its_input_alone() -> None:
    """The input image is not changed, also when it already has the right size."""
    image = picture(73, 73)
    before = image.copy()
    IMAGENET.resize_crop(image)[:] = 0
    assert np.array_equal(image, before)


def test_frames_keep_their_times() -> None:
    """Resizing a stream of frames changes images and nothing else."""
    frames = [Frame(time_s=k / 2, pts_s=k / 2 + 0.01, shown_until_s=k / 2 + 0.5, image=picture(40, 50)) for k in (0, 1)]
    resized = list(IMAGENET.resize_crop_frames(iter(frames)))
    assert [(f.time_s, f.pts_s, f.shown_until_s) for f in resized] == [(0.0, 0.01, 0.5), (0.5, 0.51, 1.0)]
    assert np.array_equal(resized[1].image, IMAGENET.resize_crop(frames[1].image))


def test_a_shared_image_is_resized_once() -> None:
    """Neighbours that share an image, on a grid finer than the video, share the resized one."""
    shared = picture(40, 50)
    images = [shared, shared, picture(50, 40), shared]
    resized = list(
        IMAGENET.resize_crop_frames(Frame(k / 2, k / 2, k / 2 + 0.5, image) for k, image in enumerate(images))
    )
    assert resized[0].image is resized[1].image
    assert [np.array_equal(f.image, IMAGENET.resize_crop(image)) for f, image in zip(resized, images, strict=True)] == [
        True
    ] * 4


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), "u1")]
)
def test_what_is_no_image_raises(bad: npt.NDArray[np.uint8]) -> None:
    """Grey, float and empty pictures are refused with their shape and type."""
    with pytest.raises(ValueError, match=r"an image is \(H, W, 3\) uint8, got"):
        IMAGENET.resize_crop(bad)


def test_normalise_is_the_formula() -> None:
    """(value / 255 - mean) / std for each channel, channels before height, within float32's rounding."""
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 4, 3), dtype=np.uint8)
    wanted = (frames / 255 - np.array(IMAGENET.mean)) / np.array(IMAGENET.std)
    pixels = IMAGENET.normalise(torch.from_numpy(frames), torch.float32)
    assert pixels.is_contiguous()
    np.testing.assert_allclose(pixels.numpy(), wanted.transpose(0, 1, 4, 2, 3), rtol=0, atol=1e-6)
    half = IMAGENET.normalise(torch.from_numpy(frames), torch.bfloat16)
    assert torch.equal(half, pixels.to(torch.bfloat16))
    with pytest.raises(ValueError, match="uint8"):
        IMAGENET.normalise(torch.from_numpy(frames).float(), torch.float32)


# The values of the published ViT-L's processor file.
PUBLISHED = {
    "crop_size": {"height": 256, "width": 256},
    "data_format": "channels_first",
    "do_center_crop": True,
    "do_convert_rgb": None,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 292},
    "video_processor_type": "VJEPA2VideoProcessor",
}


@pytest.mark.parametrize("name", ["video_preprocessor_config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("crop_size", [256, {"height": 256, "width": 256}])
def test_a_checkpoints_processor_is_read(tmp_path: Path, name: str, crop_size: object) -> None:
    """The published file is understood under both of its names and with both forms of its crop size."""
    (tmp_path / name).write_text(json.dumps(PUBLISHED | {"crop_size": crop_size}))
    assert Preprocessing.from_checkpoint(tmp_path) == with_crop(256)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """A written processor file gives the same values again, and `to_dict` survives JSON."""
    IMAGENET.to_checkpoint(tmp_path)
    read = Preprocessing.from_checkpoint(tmp_path)
    assert read == IMAGENET
    assert json.loads(json.dumps(read.to_dict())) == IMAGENET.to_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_size": {"height": 256, "width": 224}}, "crop_size is a whole number"),
        ({"crop_size": {}}, "crop_size is a whole number"),
        ({"crop_size": None}, "crop_size is a whole number"),
        ({"image_std": [0.2, 0.2, 0]}, "std is above zero"),
        ({"image_mean": [0.5]}, "three numbers"),
        ({"image_mean": ["a", "b", "c"]}, "could not convert"),
        ({"resample": 3}, "resample must be 2, got 3"),
        ({"do_center_crop": False}, "do_center_crop must be True, got False"),
    ],
)
def test_a_processor_that_does_something_else_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    """Anything but a square bilinear centre crop raises, with the file's path and the key."""
    path = tmp_path / "video_preprocessor_config.json"
    path.write_text(json.dumps(PUBLISHED | change))
    with pytest.raises(PreprocessingError, match=message) as caught:
        Preprocessing.from_checkpoint(tmp_path)
    assert str(path) in str(caught.value)


def test_a_missing_or_broken_processor_file_is_named(tmp_path: Path) -> None:
    """A missing file is an error with both names; bad JSON and a missing key are named."""
    with pytest.raises(PreprocessingError, match=r"video_preprocessor_config\.json and preprocessor_config\.json"):
        Preprocessing.from_checkpoint(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text("{")
    with pytest.raises(PreprocessingError, match="is not JSON"):
        Preprocessing.from_checkpoint(tmp_path)
    path.write_text(json.dumps({"crop_size": 64, "image_std": [1, 1, 1]}))
    with pytest.raises(PreprocessingError, match="lacks image_mean; it has crop_size, image_std"):
        Preprocessing.from_checkpoint(tmp_path)
