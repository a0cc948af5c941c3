"""What is true of a recording that somebody reviewed as a whole, as a file of the kind that demo recordings have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from features.files import write_csv
from pipeline.diaries.correcting import Corrections
from pipeline.diaries.output import TRUTH
from pipeline.review.recordings import Reviewed
from reports.corrections import Correction, known_times
from reports.spans import Span, total, without

_ROUNDING_MS = 500  # a stretch that is marked by eye ends this much before the file does


def unreviewed(reviewed: Reviewed, corrections: Sequence[Correction]) -> list[Span]:
    """What of the observed time is in no stretch that somebody marked complete."""
    complete = [correction.span for correction in corrections if correction.verdict == "complete"]
    left = without(reviewed.stored.recording.observed_spans, complete)
    return [span for span in left if span[1] - span[0] > _ROUNDING_MS]


def write_truth(folder: Path, reviewed: Reviewed, corrections: Sequence[Correction]) -> Path:
    """Write `<id>.truth.csv` with start_s, end_s and label of all that is on in a recording, in order of time."""
    stored = reviewed.stored
    known = known_times(corrections, stored.names, exclusions=stored.exclusions)
    rows = sorted((start, end, label) for label, spans in known.on.items() for start, end in spans)
    path = folder / f"{reviewed.id}{TRUTH}"
    write_csv(path, ("start_s", "end_s", "label"), [(start / 1000, end / 1000, label) for start, end, label in rows])
    return path


def write_truths(folder: Path, recordings: Sequence[Reviewed]) -> tuple[list[Path], list[str]]:
    """Write the truth of each recording that was reviewed as a whole, and say of each other how much is left."""
    corrections, paths, left = Corrections(folder), [], []
    for reviewed in recordings:
        said = corrections.of(reviewed.video_sha256)
        if spans := unreviewed(reviewed, said):
            first_s = spans[0][0] / 1000
            left.append(
                f"{reviewed.id}: {total(spans) / 1000:g} s are in no stretch that was marked complete, "
                f"the first from {first_s:g} s on"
            )
        else:
            paths.append(write_truth(folder, reviewed, said))
    return paths, left
