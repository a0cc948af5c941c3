"""What two models state differently of the same recordings, and what people had said of it: `Changes`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

from reports.corrections import Known
from reports.events import Event
from reports.metrics.matching import intersection, match
from reports.spans import Span, segment_span, total

_IOU = 0.3


@dataclass(frozen=True)
class Changes:
    """Counts of entries: those that only the model before states, `fewer`, and those that only the one after does.

    Of those that people judged, `right` and `wrong` ones before and after, and how many wrong ones before are `gone`.
    """

    fewer: int = 0
    more: int = 0
    right_before: int = 0
    wrong_before: int = 0
    right_after: int = 0
    wrong_after: int = 0
    gone: int = 0

    def __add__(self, other: Changes) -> Changes:
        return Changes(*(own + its for own, its in zip(astuple(self), astuple(other), strict=True)))

    def lines(self) -> list[str]:
        """In sentences."""
        lines = [f"{_entries(self.fewer)} fewer, {self.more} more."]
        judged_before, judged_after = self.right_before + self.wrong_before, self.right_after + self.wrong_after
        if judged_before and judged_after:
            lines.append(
                f"On what was reviewed, precision {self.right_before / judged_before:.2f} -> "
                f"{self.right_after / judged_after:.2f}; {self.gone} of {_entries(self.wrong_before, 'wrong ')} "
                f"{'is' if self.gone == 1 else 'are'} gone. The model learned from just these answers: "
                "elsewhere it gains less."
            )
        return lines


def changes(before: Sequence[Event], after: Sequence[Event], known: Known) -> Changes:
    """Of one recording. Two entries of a label are one where their times agree at an IoU of 0.3.

    One is right where a known event of its label agrees so, and wrong where more than half of its time is known to be
    without; of all others nobody said anything.
    """
    of_labels = (
        _changes(
            [segment_span(event.segment) for event in before if event.label == label],
            [segment_span(event.segment) for event in after if event.label == label],
            known.on.get(label, ()),
            known.off.get(label, ()),
        )
        for label in sorted({event.label for event in (*before, *after)})
    )
    return sum(of_labels, Changes())


def _changes(before: Sequence[Span], after: Sequence[Span], on: Sequence[Span], off: Sequence[Span]) -> Changes:
    both = match(before, after, min_iou=_IOU)
    right_before, wrong_before = _judged(before, on, off)
    right_after, wrong_after = _judged(after, on, off)
    return Changes(
        fewer=len(before) - len(both),
        more=len(after) - len(both),
        right_before=len(right_before),
        wrong_before=len(wrong_before),
        right_after=len(right_after),
        wrong_after=len(wrong_after),
        gone=len(set(wrong_before) - {span for span, _ in both}),
    )


def _judged(stated: Sequence[Span], on: Sequence[Span], off: Sequence[Span]) -> tuple[list[Span], list[Span]]:
    """The right ones, and the wrong ones."""
    right = [span for _, span in match(on, stated, min_iou=_IOU)] if on else []
    wrong = [span for span in stated if span not in right and 2 * total(intersection([span], off)) > span[1] - span[0]]
    return right, wrong


def _entries(count: int, kind: str = "") -> str:
    return f"{count} {kind}{'entry' if count == 1 else 'entries'}"
