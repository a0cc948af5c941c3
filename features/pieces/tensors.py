"""What a piece of the cache holds, as named tensors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from features.pictures import WindowPictures
from features.store.embeddings import VideoEmbeddings
from features.thumbnails import PackedJpegs, Thumbnails

_COLUMNS = ("window", "start_s", "end_s", "num_padded")
_VECTORS = "vectors/"
_PICTURES = ("brightness", "contrast", "motion")


def embedding_tensors(video: VideoEmbeddings) -> dict[str, torch.Tensor]:
    """A video's columns and vectors; its `pictures` are there."""
    columns = {name: getattr(video, name) for name in _COLUMNS}
    columns |= {name: getattr(video.pictures, name) for name in _PICTURES}
    columns |= {_VECTORS + pooling: vectors for pooling, vectors in video.vectors.items()}
    return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in columns.items()}


def embeddings_from(tensors: Mapping[str, torch.Tensor]) -> VideoEmbeddings:
    """The video that `embedding_tensors` was given; of other tensors it takes no notice."""
    values = {name: tensor.numpy() for name, tensor in tensors.items()}
    vectors = {name.removeprefix(_VECTORS): each for name, each in values.items() if name.startswith(_VECTORS)}
    pictures = WindowPictures(**{name: values[name] for name in _PICTURES})
    return VideoEmbeddings(**{name: values[name] for name in _COLUMNS}, vectors=vectors, pictures=pictures)


def thumbnail_tensors(thumbnails: Thumbnails) -> dict[str, torch.Tensor]:
    """Times, sizes and bytes of a video's thumbnails."""
    return {
        "times_s": torch.tensor(thumbnails.times_s),
        "sizes": torch.tensor([len(jpeg) for jpeg in thumbnails.jpegs], dtype=torch.int64),
        "jpegs": torch.tensor(np.frombuffer(b"".join(thumbnails.jpegs), dtype=np.uint8)),
    }


def thumbnails_from(tensors: Mapping[str, torch.Tensor]) -> Thumbnails:
    """The thumbnails that `thumbnail_tensors` was given."""
    jpegs = PackedJpegs(tensors["jpegs"].numpy(), tensors["sizes"].tolist())
    return Thumbnails(tensors["times_s"].numpy(), jpegs)
