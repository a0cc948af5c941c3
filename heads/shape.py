"""The shape of a temporal head, in the keys of params/<profile>.yaml. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le, Lt

MAX_BLOCKS = 8


@dataclass(frozen=True, kw_only=True)
class TemporalShape:
    """`blocks` residual blocks of `width` channels, of which block k has dilation 2^k.

    Training drops the share `dropout` of the features: of each window anew, and nothing behind them.
    """

    width: Annotated[int, Ge(1)]
    blocks: Annotated[int, Ge(1), Le(MAX_BLOCKS)]
    dropout: Annotated[float, Ge(0), Lt(1)]

    def __post_init__(self) -> None:
        if self.width < 1 or not 1 <= self.blocks <= MAX_BLOCKS or not 0 <= self.dropout < 1:
            raise ValueError(f"a shape needs width >= 1, 1 to {MAX_BLOCKS} blocks, dropout in [0, 1), got {self}")

    @property
    def reach(self) -> int:
        """How many windows on either side of a window its logits depend on."""
        return 2**self.blocks - 1
