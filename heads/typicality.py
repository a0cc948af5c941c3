"""How far a window is from those that a model was trained on: `Typicality`. Knows vectors and no label.

The distance is Mahalanobis', from the mean of the train windows and with their covariance, as Lee et al. use it for
inputs of no known class ("A simple unified framework for detecting out-of-distribution samples and adversarial
attacks", NeurIPS 2018): windows carry several labels at once, so that there is one Gaussian and not one a class. The
covariance is shrunk towards a multiple of the identity (Ledoit and Wolf, "A well-conditioned estimator for
large-dimensional covariance matrices", 2004), since directions that train hardly has would otherwise decide alone. It
was chosen over the distance to the k-th nearest train window (Sun et al., ICML 2022): LOG.md has both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch

from features.sealed import damage_told, read_sealed_tensors, write_sealed_tensors

_SHRINKAGE = 0.1
_MAX_WINDOWS = 50_000
"""A mean and a covariance need no more; evenly spread over train, 0.4 GB in float64 of 1,024 numbers each."""


@dataclass(frozen=True, eq=False)
class Typicality:
    """The mean (D,) of train vectors and the matrix (D, D) that makes them white, float32.

    Vectors are the frozen backbone's of one `pooling`, whatever the model has learned: the mean of the tokens lies
    apart where patches show nothing known, the pooler's vector hardly does.
    """

    pooling: ClassVar[str] = "mean"
    mean: npt.NDArray[np.float32]
    whitening: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        size = len(self.mean)
        if self.mean.shape != (size,) or self.whitening.shape != (size, size):
            raise ValueError(f"a mean of shape {self.mean.shape} does not fit a matrix of {self.whitening.shape}")

    @classmethod
    def fit(cls, vectors: npt.NDArray[np.floating]) -> Self:
        """Of train windows (n, D). Vectors that are all alike raise `ValueError`, as no vectors do."""
        n = len(vectors)
        rows = np.linspace(0, n - 1, min(n, _MAX_WINDOWS)).round().astype(np.int64)
        centred = vectors[rows].astype(np.float64)
        mean = centred.mean(axis=0) if n else np.zeros(vectors.shape[1])
        centred -= mean
        # The copy keeps the bits: for an array with itself another routine is taken.
        covariance = centred.T @ centred.copy() / max(len(rows), 1)
        variance = float(np.trace(covariance)) / len(mean)
        if not variance > 0:
            raise ValueError(f"{n} train windows, and no two of them differ: nothing can be said to be unlike them")
        shrunk = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * variance * np.eye(len(mean))
        values, directions = np.linalg.eigh(shrunk)
        return cls(mean.astype(np.float32), (directions / np.sqrt(values)).astype(np.float32))

    def distances(self, vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Distance of each window (n, D), (n,); of train windows the mean of the squares is about D."""
        if vectors.ndim != 2 or vectors.shape[1] != len(self.mean):
            raise ValueError(f"vectors of {len(self.mean)} numbers are wanted, got {vectors.shape}")
        return np.linalg.norm((vectors.astype(np.float32) - self.mean) @ self.whitening, axis=1)

    def save(self, path: Path, *, backbone_sha256: str) -> None:
        """Write safetensors with their hash, and whose vectors these are."""
        tensors = {"mean": torch.from_numpy(self.mean), "whitening": torch.from_numpy(self.whitening)}
        write_sealed_tensors(path, tensors, {"pooling": self.pooling, "backbone_sha256": backbone_sha256})

    @classmethod
    def load(cls, path: Path, *, backbone_sha256: str, remedy: str) -> Self:
        """What `save` wrote. Raises `DamagedFile`, also if it is of another backbone, or `FileNotFoundError`."""
        tensors, header = read_sealed_tensors(path, remedy=remedy)
        with damage_told(path, remedy=remedy):
            wanted = {"pooling": cls.pooling, "backbone_sha256": backbone_sha256}
            if header != wanted:
                raise ValueError(f"it is of other vectors: wanted {wanted}, found {header}")
            return cls(tensors["mean"].numpy(), tensors["whitening"].numpy())
