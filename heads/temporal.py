"""Temporal heads: dilated convolutions over the windows of a whole video, in place of each window alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from features.sealed import damage_told
from heads import weights
from heads.shape import MAX_BLOCKS, TemporalShape

_CHUNK_WINDOWS = 2048  # computed at once: 8 MB for each 1,024 features
_MAX_PAUSE = 2**MAX_BLOCKS  # steps; no head reaches further


class TemporalHead(nn.Module):
    """Residual blocks of dilated convolutions over standardised features: (B, T, D) -> logits (B, T, L).

    Step t is a window's place in time, one stride after step t - 1; `mask` (B, T) is true where there is a window.
    Other steps count as zeros, as does what lies before the first step and after the last: their features are not
    read and their logits mean nothing. Block k has dilation 2^k, so a window's logits depend on the windows up to
    `shape.reach` steps away, and on nothing else: not on the length of the sequence, nor on their place in it.

    Mean and standard deviation of the training features are part of the head: it takes embeddings as stored.
    """

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, num_features: int, num_labels: int, shape: TemporalShape) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("inverse_std", torch.ones(num_features))
        self.dropout = nn.Dropout(shape.dropout)
        self.project = nn.Linear(num_features, shape.width)
        self.blocks = nn.ModuleList([_Block(shape.width, dilation=2**k) for k in range(shape.blocks)])
        self.norm = nn.LayerNorm(shape.width)
        self.linear = nn.Linear(shape.width, num_labels)

    @property
    def num_labels(self) -> int:
        return self.linear.out_features

    @torch.no_grad()
    def start_from(self, features: Tensor, targets: Tensor) -> None:
        """Standardise by features (n, D), and start where every answer is the labels' share of targets (n, L).

        What is nan in them is unknown and in no share.
        """
        mean, std = _mean_and_std(features)
        self.mean.copy_(mean)
        self.inverse_std.copy_(1 / std.clamp_min(1e-4))
        self.linear.weight.zero_()
        # A label that train never shows would start at minus infinity.
        self.linear.bias.copy_(torch.logit(targets.float().nanmean(0).nan_to_num(0).clamp(1e-4, 1 - 1e-4)))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        return self.linear(self.hidden(features, mask))

    def hidden(self, features: Tensor, mask: Tensor) -> Tensor:
        """What the last layer sees, (B, T, width)."""
        present = mask[..., None]
        x = self.project(self.dropout((features.float() - self.mean) * self.inverse_std))
        x = x.masked_fill(~present, 0.0)  # and not a product, which nan would survive
        for block in self.blocks:
            x = block(x, present)
        return self.norm(x)


class _Block(nn.Module):
    """x + GELU(convolution(norm(x))), zeros where no window is; the norm is over the channels of one step."""

    def __init__(self, width: int, *, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.convolution = nn.Conv1d(width, width, kernel_size=3, padding=dilation, dilation=dilation)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        inputs = self.norm(x).masked_fill(~present, 0.0)
        change = nn.functional.gelu(self.convolution(inputs.mT)).mT
        return (x + change).masked_fill(~present, 0.0)


class TemporalEnsemble(nn.Module):
    """K heads, alike but for the weights that they start from: (B, T, D) and mask (B, T) -> logits (B, T, L).

    The logits are those of the mean of the members' probabilities (Lakshminarayanan et al., "Simple and Scalable
    Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS 2017); of one member they are its own.
    """

    def __init__(self, members: Sequence[TemporalHead]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    @property
    def shape(self) -> TemporalShape:
        """That of each member."""
        return self._heads[0].shape

    @property
    def num_labels(self) -> int:
        return self._heads[0].num_labels

    @property
    def _heads(self) -> list[TemporalHead]:
        return [member for member in self.members if isinstance(member, TemporalHead)]

    def start_from(self, features: Tensor, targets: Tensor) -> None:
        """Each member as `TemporalHead.start_from` does; the weights before the last layer stay apart."""
        first, *others = self._heads
        first.start_from(features, targets)
        names = ("mean", "inverse_std", "linear.weight", "linear.bias")
        same = {name: tensor for name, tensor in first.state_dict().items() if name in names}
        for other in others:
            other.load_state_dict(other.state_dict() | same)

    def each(self, features: Tensor, mask: Tensor) -> Tensor:
        """The members' own logits (K, B, T, L); in training mode each draws dropout of its own."""
        return torch.stack([member(features, mask) for member in self.members])

    def hidden(self, features: Tensor, mask: Tensor) -> Tensor:
        """What the last layers of the members see, side by side: (B, T, K width)."""
        return torch.cat([head.hidden(features, mask) for head in self._heads], dim=-1)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        logits = self.each(features, mask)
        if len(logits) == 1:
            return logits[0]
        # The log of the mean probability of yes, less that of no: finite where the probability itself rounds to 0 or 1.
        return logsigmoid(logits).logsumexp(0) - logsigmoid(-logits).logsumexp(0)


class TemporalHeadGrid(nn.Module):
    """C copies of an ensemble, to be trained at once: (B, T, D) and mask (B, T) -> logits (C, K, n, L).

    The logits are those of each member, on the n windows in the mask. All copies draw the same dropout, so each is as
    if alone.
    """

    def __init__(self, head: TemporalEnsemble, count: int) -> None:
        super().__init__()
        self.heads = [copy.deepcopy(head) for _ in range(count)]
        self.registered = nn.ModuleList(self.heads)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        logits = []
        for head in self.heads[:-1]:
            with torch.random.fork_rng([features.device] if features.is_cuda else []):
                logits.append(head.each(features, mask)[:, mask])
        return torch.stack([*logits, self.heads[-1].each(features, mask)[:, mask]])


def window_steps(start_s: npt.NDArray[np.floating], *, stride_s: float) -> npt.NDArray[np.int64]:
    """Each window's step, (n,), from the ascending starts (n,) of one video's windows: a pause leaves steps out.

    Two windows never share a step, however unevenly they start. A pause longer than any head reaches is shortened.
    """
    strides = np.round(np.diff(start_s) / stride_s).clip(1, _MAX_PAUSE).astype(np.int64)
    return np.concatenate([np.zeros(min(1, len(start_s)), dtype=np.int64), np.cumsum(strides)])


def predict_sequence(
    head: TemporalHead | TemporalEnsemble, features: Tensor, steps: Tensor, *, chunk_windows: int = _CHUNK_WINDOWS
) -> Tensor:
    """Logits (n, L) of windows with features (n, D) at ascending `steps` (n,), on the head's device.

    The sequence may be of any length: `chunk_windows` steps are computed at once, with those in reach on either side,
    and each window's logits are those of the whole sequence, but for rounding. A head in training mode raises
    `ValueError`.
    """
    return _in_chunks(head, head, head.num_labels, features, steps, chunk_windows=chunk_windows)


@torch.no_grad()
def _in_chunks(
    head: TemporalHead | TemporalEnsemble,
    compute: Callable[[Tensor, Tensor], Tensor],
    size: int,
    features: Tensor,
    steps: Tensor,
    *,
    chunk_windows: int = _CHUNK_WINDOWS,
) -> Tensor:
    """What the head's `compute` makes of features and mask, (n, size), as `predict_sequence` says."""
    if head.training:
        raise ValueError("dropout is on: a head predicts in eval mode")
    device = next(head.parameters()).device
    num_steps = int(steps[-1]) + 1 if len(steps) else 0
    row = torch.full((num_steps,), -1)
    row[steps] = torch.arange(len(steps))
    found = [torch.zeros(0, size)]
    for first in range(0, num_steps, chunk_windows):
        begin, end = max(0, first - head.shape.reach), first + chunk_windows + head.shape.reach
        rows = row[begin:end]
        mask = rows >= 0
        own = compute(features[rows.clamp_min(0)][None].to(device), mask[None].to(device))[0].float().cpu()
        wanted = slice(first - begin, first - begin + chunk_windows)
        found.append(own[wanted][mask[wanted]])
    return torch.cat(found)


def video_probabilities(
    head: TemporalHead | TemporalEnsemble,
    vectors: Sequence[npt.NDArray[np.floating]],
    start_s: npt.NDArray[np.floating],
    *,
    stride_s: float,
    part_windows: int = _CHUNK_WINDOWS,
) -> npt.NDArray[np.float32]:
    """Probabilities (n, L) of a video's windows, of any number, with `vectors` (n, D) each that the head takes joined.

    Of a long video a part is joined at a time, with the windows in reach. `start_s` (n,) ascends.
    """
    compute = partial(predict_sequence, head)
    steps = window_steps(start_s, stride_s=stride_s)
    parts = _in_parts(head, compute, head.num_labels, vectors, steps, part_windows=part_windows)
    return np.concatenate([logits.sigmoid().numpy() for logits in parts])


def video_hidden(
    head: TemporalEnsemble,
    vectors: Sequence[npt.NDArray[np.floating]],
    start_s: npt.NDArray[np.floating],
    *,
    stride_s: float,
    part_windows: int = _CHUNK_WINDOWS,
) -> npt.NDArray[np.float32]:
    """What the last layers see of a video's windows, (n, K width), as `video_probabilities` has it."""
    size = len(head.members) * head.shape.width
    compute = partial(_in_chunks, head, head.hidden, size)
    steps = window_steps(start_s, stride_s=stride_s)
    parts = _in_parts(head, compute, size, vectors, steps, part_windows=part_windows)
    return np.concatenate([hidden.numpy() for hidden in parts])


def _in_parts(
    head: TemporalHead | TemporalEnsemble,
    compute: Callable[[Tensor, Tensor], Tensor],
    size: int,
    vectors: Sequence[npt.NDArray[np.floating]],
    steps: npt.NDArray[np.int64],
    *,
    part_windows: int,
) -> Iterator[Tensor]:
    """What `compute` makes of joined vectors and steps, (n, size), part by part with what is in reach; first none."""
    yield torch.zeros(0, size)
    for first in range(0, len(steps), part_windows):
        last = min(first + part_windows, len(steps)) - 1
        begin, end = np.searchsorted(steps, [steps[first] - head.shape.reach, steps[last] + head.shape.reach + 1])
        part = torch.from_numpy(np.concatenate([each[begin:end] for each in vectors], axis=1))
        yield compute(part, torch.from_numpy(steps[begin:end] - steps[begin]))[first - begin : last + 1 - begin]


def load_temporal_head(folder: Path, *, expected: Mapping[str, Any]) -> tuple[TemporalEnsemble, dict[str, Any]]:
    """An ensemble in eval mode and its config, where "temporal" has its shape; raises as `weights.load` does.

    The tensors of a single head, under their own names, are an ensemble of one. A last block in the folder is passed
    over: it is the backbone's.
    """
    tensors, config = weights.load(folder, expected=expected)
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(weights.LAST_BLOCK)}
    if "linear.weight" in tensors:
        tensors = {f"members.0.{name}": tensor for name, tensor in tensors.items()}
    with damage_told(folder, remedy=weights.REMEDY):
        num_labels, _ = tensors["members.0.linear.weight"].shape
        num_features, shape = len(tensors["members.0.mean"]), TemporalShape(**config["temporal"])
        num_members = len({name.split(".")[1] for name in tensors})
        ensemble = TemporalEnsemble([TemporalHead(num_features, num_labels, shape) for _ in range(num_members)])
        weights.load_into(ensemble, tensors)
    return ensemble.eval(), config


def _mean_and_std(features: Tensor) -> tuple[Tensor, Tensor]:
    """Of each column, in double precision and a part of the rows at a time: features may be float16, and many."""
    mean = torch.stack([part.double().sum(0) for part in features.split(_CHUNK_WINDOWS)]).sum(0) / len(features)
    squares = torch.stack([(part.double() - mean).square().sum(0) for part in features.split(_CHUNK_WINDOWS)]).sum(0)
    return mean, (squares / max(1, len(features) - 1)).sqrt()
