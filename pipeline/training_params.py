"""The sections of the params that say how models are trained."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen

from heads.shape import TemporalShape
from heads.training.schedule import LossName, Precision, TrainingSchedule
from pipeline.param_values import AtLeastOne, NonNegative, OneOrMore, Positive, require_unique


@dataclass(frozen=True, kw_only=True)
class _ScheduleKeys(TrainingSchedule):
    """A section that holds the keys of a schedule beside its own."""

    @property
    def schedule(self) -> TrainingSchedule:
        return TrainingSchedule(**{field.name: getattr(self, field.name) for field in fields(TrainingSchedule)})


@dataclass(frozen=True, kw_only=True)
class TrainParams(_ScheduleKeys):
    features: Annotated[tuple[Literal["pooler", "mean", "max"], ...], MinLen(1)]
    learning_rate: Annotated[tuple[Positive, ...], OneOrMore, MinLen(1)]
    weight_decay: Annotated[tuple[NonNegative, ...], OneOrMore, MinLen(1)]
    loss: Annotated[tuple[LossName, ...], OneOrMore, MinLen(1)]
    batch_size: AtLeastOne

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("features", "learning_rate", "weight_decay", "loss"):
            require_unique(key, getattr(self, key))


@dataclass(frozen=True, kw_only=True)
class TemporalParams(TrainParams, TemporalShape):
    """As `train`, with batches of sequences, which are `sequence_windows` long, and `members` heads in an ensemble.

    `embeddings` are those that a model each sees: of the frozen backbone, and of the block that `finetune` trained.
    """

    embeddings: Annotated[tuple[Literal["frozen", "finetuned"], ...], MinLen(1)]
    members: Annotated[int, Ge(1), Le(32)]
    sequence_windows: AtLeastOne

    def __post_init__(self) -> None:
        TrainParams.__post_init__(self)
        TemporalShape.__post_init__(self)
        require_unique("embeddings", self.embeddings)
        if "frozen" not in self.embeddings:
            raise ValueError(f"embeddings always has frozen, got {', '.join(self.embeddings)}")

    @property
    def shape(self) -> TemporalShape:
        return TemporalShape(width=self.width, blocks=self.blocks, dropout=self.dropout)


@dataclass(frozen=True, kw_only=True)
class FinetuneParams(_ScheduleKeys):
    source: Literal["video", "block_inputs"]
    block_inputs_gb: Positive
    block_inputs_precision: Precision
    random_starts: bool
    flip: bool
    head_learning_rate: Positive
    backbone_learning_rate: Positive
    weight_decay: NonNegative
    batch_size: AtLeastOne
    windows_per_video: AtLeastOne
    shuffle_windows: AtLeastOne
    evaluate_windows: AtLeastOne
    checkpoint_every_steps: AtLeastOne

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source == "block_inputs" and (self.random_starts or self.flip):
            raise ValueError(
                "random_starts and flip need source video, since block inputs are stored of windows as they are; got "
                f"source block_inputs, random_starts {str(self.random_starts).lower()}, flip {str(self.flip).lower()}"
            )


@dataclass(frozen=True, kw_only=True)
class AttentiveParams(_ScheduleKeys):
    learning_rate: Positive
    weight_decay: NonNegative
    batch_size: AtLeastOne
