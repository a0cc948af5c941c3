"""How a model does on val while it trains: loss and mAP. Knows tensors; chooses nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from heads.metrics import mean_average_precision

Evaluate = Callable[[nn.Module], Mapping[str, float]]


def scores(logits: Tensor, targets: Tensor) -> dict[str, float]:
    """Binary cross-entropy in fp32 and mAP of logits (n, L) against targets (n, L)."""
    logits, targets = logits.float().cpu(), targets.float().cpu()
    loss = F.binary_cross_entropy_with_logits(logits, targets)
    found = mean_average_precision(logits.sigmoid().numpy(), targets.bool().numpy())
    return {"loss": loss.item(), "map": found}


def on_features(features: Tensor, targets: Tensor) -> Evaluate:
    """Evaluate a head on features (n, D), all at once."""
    return lambda model: scores(model(features.to(next(model.parameters()).device)), targets)
