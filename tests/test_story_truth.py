"""The story of what truly happened in the demo's recordings: short, true, and free of contradictions."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from features.video import Segment
from pipeline.dataset.roles import read_roles
from pipeline.demo.script import make_story
from pipeline.demo.world import make_person
from reports.diary.clauses import Claim
from reports.diary.recording import Recording
from reports.diary.roles import LASTING
from reports.diary.story import StoryLine, headline, tell
from reports.diary.wording import said_duration, said_times
from reports.events import Event, EventsFound
from tests.story_claims import Truth, contradictions, is_true

ROLES = read_roles(Path(__file__).parents[1] / "labels" / "demo" / "roles.csv")
LENGTH_S = 180.0


def true_story(number: int) -> tuple[Truth, list[StoryLine]]:
    """What happens in the demo's recording of this number, and the story of events that are exactly that."""
    person = make_person(np.random.default_rng((7, 4, number)))
    story = make_story(np.random.default_rng((7, 3, number)), person, LENGTH_S)
    actions = [(label, start_s, min(end_s, LENGTH_S)) for label, start_s, end_s in story.actions]
    found = [
        Event(f"a-{i:03d}", label, Segment(start_s, end_s), 1.0, 1.0)
        for i, (label, start_s, end_s) in enumerate(sorted(actions, key=lambda action: action[1]), start=1)
    ]
    start = datetime(2026, 3, 14, 8, 2, 11, tzinfo=UTC)
    recording = Recording("a", "a.mp4", LENGTH_S, start, "file name", (Segment(0, LENGTH_S),))
    lines = tell([(recording, EventsFound(tuple(found), {}))], {}, ROLES, min_quiet_s=5.0)
    assert sorted(event_id for line in lines for event_id in line.event_ids) == [event.id for event in found]
    return [(label, round(1000 * start_s), round(1000 * end_s)) for label, start_s, end_s in actions], lines


@pytest.mark.parametrize("number", range(8))
def test_a_true_story_is_short_true_and_consistent(number: int) -> None:
    """At most 15 lines for three minutes, each event in one line, at least 85% of the claims true, no contradiction."""
    truth, lines = true_story(number)
    assert 3 <= len(lines) <= 15
    claims = [claim for line in lines for claim in line.claims if claim.is_told]
    true = [claim for claim in claims if is_true(claim, truth)]
    assert len(true) >= 0.85 * len(claims), set(claims) - set(true)
    assert contradictions(lines, ROLES) == []


def test_claims_are_what_the_words_say() -> None:
    """Each claim's words, count and duration stand in its line, and most of what happened is claimed."""
    for number in range(8):
        truth, lines = true_story(number)
        claimed: dict[str, int] = {}
        for line in lines:
            for claim in line.claims:
                claimed[claim.label] = claimed.get(claim.label, 0) + claim.times
                role = ROLES[claim.label]
                phrases = {role.phrase, role.together or role.phrase}
                if role.kind == "toggle":  # "opened and closed the door", "turned the light off and on"
                    phrases = {word for word in role.phrase.split() if word not in ("turned", "the", "light")}
                if role.kind != "begin":  # it is in the words of its state
                    assert any(phrase in line.text.lower() for phrase in phrases), (claim, line.text)
                assert said_times(claim.times // 2 if claim.is_return else claim.times) in line.text
                is_counted = role.kind == "use" and claim.times > 1
                if role.kind in LASTING and not is_counted:
                    assert said_duration(claim.total_ms) in line.text, (claim, line.text)
        ends = {label for label, role in ROLES.items() if role.kind in ("begin", "end")}
        happened = sum(label not in ends for label, _, _ in truth)
        assert sum(count for label, count in claimed.items() if label not in ends) >= 0.9 * happened


def test_the_checker_finds_what_is_false() -> None:
    """A wrong label, count, time or duration is no true claim; two postures at once and a told gap contradict."""
    truth = [("c106", 1_000, 4_000), ("c106", 6_000, 9_000)]
    assert is_true(Claim("c106", 2, 1_000, 9_000, 6_000, ()), truth)
    assert is_true(Claim("c106", 1, 1_500, 4_000, 2_500, ()), truth)
    assert not is_true(Claim("c106", 3, 1_000, 9_000, 6_000, ()), truth)
    assert not is_true(Claim("c106", 2, 1_000, 9_000, 12_000, ()), truth)
    assert not is_true(Claim("c106", 1, 20_000, 22_000, 2_000, ()), truth)
    assert not is_true(Claim("c032", 1, 1_000, 4_000, 3_000, ()), truth)
    recording = Recording("a", "a.mp4", 60.0, None, "unknown", (Segment(0, 60),))
    sitting = StoryLine(recording, 0, 20_000, "", ("a-1",), "events", claims=(Claim("c059", 1, 0, 20_000, 20_000, ()),))
    lying = StoryLine(
        recording, 5_000, 9_000, "", ("a-2",), "events", claims=(Claim("c122", 1, 5_000, 9_000, 4_000, ()),)
    )
    gap = StoryLine(recording, 10_000, 15_000, "", (), "not observed")
    assert len(contradictions([sitting, lying], ROLES)) == 1
    assert len(contradictions([sitting, gap], ROLES)) == 1
    assert len(contradictions([sitting, sitting], ROLES)) == 1
    assert headline([recording]) == "1 min, all on video"
