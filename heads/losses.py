"""What a training minimises: multi-label losses of logits and targets. Knows tensors; knows no model.

A loss takes logits (..., B, L) and targets (B, L), of 0 and 1, and gives the mean over B and L, (...): several
candidates' losses at once, or one's. All computed in fp32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from heads.training.schedule import LossName

Loss = Callable[[Tensor, Tensor], Tensor]

# Ridnik et al., "Asymmetric Loss For Multi-Label Classification" (ICCV 2021), the values of their section 4.
# gamma_pos = 0 and gamma_neg = 4 are the exponents below, and this is the margin, "clip" in their code.
_MARGIN = 0.05
# Cui et al., "Class-Balanced Loss Based on Effective Number of Samples" (CVPR 2019): one of 0.9, 0.99, 0.999, 0.9999.
_BETA = 0.9999
_SURE = 1e4
"""The logit of a probability of exactly 1 in fp32."""


def bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy."""
    logits, targets = logits.float(), targets.float().expand_as(logits)
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean((-2, -1))


def asymmetric(logits: Tensor, targets: Tensor) -> Tensor:
    """Asymmetric loss: a negative counts by its probability above 0.05, to the fourth power; a positive as in `bce`.

    So many easy negatives do not drown few positives, and a negative of probability below 0.05 does not count at all.
    The gradient goes through the weight too, as in the paper.
    """
    cells: Tensor = _AsymmetricCells.apply(logits.float(), targets > 0)
    return cells.mean((-2, -1))


def class_balanced(targets: Tensor) -> Loss:
    """`bce` weighted by the effective numbers of positives and negatives that each label has in `targets` (n, L).

    n samples count as E(n) = (1 - beta^n) / (1 - beta), which saturates at 1 / (1 - beta) = 10,000. For each label,
    presence and absence are its two classes: their weights are proportional to 1 / E(number of positives) and
    1 / E(number of negatives) and add up to 2. A class without samples counts as one with a single sample.
    """
    num_positives, num_known = targets.double().nansum(0), (~targets.isnan()).sum(0)
    inverse = torch.stack([1 / _effective(num_positives), 1 / _effective(num_known - num_positives)])
    on_positives, on_negatives = (2 * inverse / inverse.sum(0)).float()

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        logits, targets = logits.float(), targets.float()
        weights = torch.where(targets > 0, on_positives.to(logits.device), on_negatives.to(logits.device))
        cells = F.binary_cross_entropy_with_logits(logits, targets.expand_as(logits), reduction="none")
        return (cells * weights).mean((-2, -1))

    return loss


def known_only(loss: Loss) -> Loss:
    """The mean of `loss` over the cells whose target is known: unknown is nan, and no negative.

    A batch in which nothing is known has a loss of 0.
    """

    def loss_of_known(logits: Tensor, targets: Tensor) -> Tensor:
        unknown = targets.isnan()
        # A positive that is beyond doubt costs nothing, in any of these losses.
        mean = loss(logits.float().masked_fill(unknown, _SURE), targets.masked_fill(unknown, 1.0))
        return mean * (unknown.numel() / (~unknown).sum().clamp(min=1))

    return loss_of_known


def named(name: LossName, targets: Tensor) -> Loss:
    """The loss of that name, for a training on `targets` (n, L): of their known cells, if there is a nan among them."""
    loss: Loss
    has_unknown = targets.is_floating_point() and bool(targets.isnan().any())
    match name:
        case "bce":
            loss = bce
        case "asymmetric":
            loss = asymmetric
        case "class_balanced":
            loss = class_balanced(targets)
    return known_only(loss) if has_unknown else loss


class _AsymmetricCells(torch.autograd.Function):
    """The asymmetric loss of each cell. Its gradient in closed form: half of the passes that autograd would make.

    With p the probability and e = max(p - 0.05, 0): -log p of a positive, -e^4 log(1 - e) of a negative. 1 - e is at
    least 0.05, so the second logarithm is far from its pole; the first is taken of the logit.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, is_positive: Tensor) -> Tensor:
        p = logits.sigmoid()
        e = (p - _MARGIN).clamp_(min=0)
        log_rest, cubed = torch.log1p(-e), e**3
        ctx.save_for_backward(is_positive, p, e, log_rest, cubed)
        return torch.where(is_positive, F.logsigmoid(logits), cubed * e * log_rest).neg_()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        is_positive, p, e, log_rest, cubed = ctx.saved_tensors
        slope = (e / (1 - e)).sub_(log_rest, alpha=4).mul_(cubed).mul_(p).mul_(1 - p)
        return torch.where(is_positive, p - 1, slope).mul_(gradients[0]), None


def _effective(num_samples: Tensor) -> Tensor:
    return -torch.expm1(num_samples.clamp(min=1) * math.log(_BETA)) / (1 - _BETA)
