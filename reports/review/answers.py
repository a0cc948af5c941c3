"""From corrections to judged items: `Answer`, what an answer says and how many items it stands for.

What was judged in an earlier queue was not asked again, so a later queue is drawn from the rest. Both are put together
as Raj does ("Some estimators in sampling with varying probabilities without replacement", 1956): each queue estimates
all items by those judged before it, which count once, and its own, which count 1 / chance; the estimates are averaged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reports.corrections import Correction
from reports.review.sampling import Chance
from reports.spans import Span

_SAME_EVENT_IOU = 0.3
"""An event whose ends a person moved was right if it agrees this much with what it became, as in the reports."""


@dataclass(frozen=True)
class Answer:
    """What `who` said of an event, or of a stretch without events, whose `label` is empty.

    `num_missed` events are on that the diary does not tell: in a stretch those that were added, in place of an event
    the one that it became; a less certain event that is right is missed itself. `weight` is how many items it stands
    for, 1 where nothing was drawn.
    """

    video_sha256: str
    span: Span
    label: str
    who: str
    probability: float | None
    is_right: bool
    num_missed: int
    model_sha256: str
    chance: Chance | None
    weight: float = 1.0

    @property
    def is_told(self) -> bool:
        return self.chance is None or self.chance.is_told

    @property
    def item(self) -> tuple[str, Span, str]:
        return (self.video_sha256, self.span, self.label)


def all_answers(corrections: Sequence[Correction]) -> list[Answer]:
    """What people answered, in the order of corrections.jsonl; of two answers of one person to one item, the later."""
    added = [correction for correction in corrections if correction.verdict == "add"]
    answers: dict[tuple[object, str], Answer] = {}
    for correction in corrections:
        chance = Chance.parse(correction.sampling)
        if correction.verdict in ("right", "wrong", "change") and correction.event_id:
            is_right, num_missed = _judged(correction, is_told=chance is None or chance.is_told)
        elif correction.verdict == "complete" and correction.sampling:
            is_right, num_missed = True, sum(_lies_in(each, correction) for each in added)
        else:
            continue
        answer = Answer(
            correction.video_sha256,
            correction.span,
            correction.label,
            correction.who,
            correction.probability,
            is_right,
            num_missed,
            correction.model_sha256,
            chance,
        )
        answers.pop((answer.item, answer.who), None)
        answers[answer.item, answer.who] = answer
    return list(answers.values())


def _judged(correction: Correction, *, is_told: bool) -> tuple[bool, int]:
    """Whether the event is right, and how many events its answer shows to be missed."""
    if correction.verdict == "change" and correction.new_label != correction.label:
        return False, 1
    is_right = correction.verdict == "right"
    if correction.verdict == "change":
        (start, end), (new_start, new_end) = correction.span, correction.new_span
        both = max(0, min(end, new_end) - max(start, new_start))
        is_right = both / (end - start + new_end - new_start - both) >= _SAME_EVENT_IOU
        return is_right, int(not (is_right and is_told))
    return is_right, int(is_right and not is_told)


def _lies_in(added: Correction, stretch: Correction) -> bool:
    """Whether the middle of what was added lies there: of all stretches that it touches, in one."""
    start, end = added.span
    middle = (start + end) // 2
    return added.video_sha256 == stretch.video_sha256 and stretch.span[0] <= middle < stretch.span[1]


def of_last_model(answers: Sequence[Answer]) -> tuple[list[Answer], int]:
    """The answers on what the model of the last judged event states, and how many others there are.

    Stretches without events name no model: those judged from the first event of the last model on are its own.
    """
    models = [answer.model_sha256 for answer in answers if answer.label]
    if not models:
        return list(answers), 0
    first = next(row for row, answer in enumerate(answers) if answer.label and answer.model_sha256 == models[-1])
    own = [
        answer
        for row, answer in enumerate(answers)
        if (answer.model_sha256 == models[-1] if answer.label else row >= first or len(set(models)) == 1)
    ]
    return own, len(answers) - len(own)


def weighted(answers: Sequence[Answer]) -> tuple[list[Answer], int]:
    """One answer an item, the last one, with its weight; and how many answers are left out.

    Answers to what was not drawn are left out, since people look up what strikes them. Where nothing was drawn at all,
    all count, each for itself.
    """
    last = {answer.item: answer for answer in answers}
    drawn = [answer for answer in answers if answer.chance is not None]
    if not drawn:
        return list(last.values()), 0
    weights: defaultdict[tuple[str, Span, str], float] = defaultdict(float)
    for is_event in (True, False):
        own = [answer for answer in drawn if bool(answer.label) == is_event]
        queues: defaultdict[tuple[str, str], list[Answer]] = defaultdict(list)
        for answer in own:
            assert answer.chance is not None
            queues[answer.chance.draw, answer.who].append(answer)
        for (_, who), queue in queues.items():
            share_of_estimate = len(queue) / len(own)
            for answer in queue:
                assert answer.chance is not None
                judged_share = min(1.0, len(queue) / answer.chance.num)
                weights[answer.item] += share_of_estimate / (answer.chance.probability * judged_share)
            first = own.index(queue[0])
            for answer in own[:first]:
                if answer.who == who:
                    weights[answer.item] += share_of_estimate
    return [replace(last[item], weight=weight) for item, weight in weights.items()], len(last) - len(weights)
