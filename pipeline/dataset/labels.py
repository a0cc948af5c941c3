"""Label sets: plain text files that name the actions to recognise.

A line is an id without spaces, then a name: "c015 Holding a phone/camera". Blank lines and lines that begin with `#`
are skipped.
"""

from __future__ import annotations

import logging
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.dataset.manifest import Manifest

log = logging.getLogger(__name__)

_LINE = re.compile(r"(\S+)\s+(\S.*)")


class LabelError(Exception):
    """A label file cannot be used. The message has one line `file:line: …` for each fault."""


@dataclass(frozen=True)
class Label:
    """A class of the data set, by id, and the name that people read."""

    id: str
    name: str


@dataclass(frozen=True)
class LabelSet:
    """At least one label, in the order of the file and of a head's outputs; ids are unique.

    `lines` has each label's line in `path`.
    """

    name: str
    labels: tuple[Label, ...]
    path: Path
    lines: tuple[int, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(label.id for label in self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    def to_json(self) -> list[dict[str, str]]:
        """As a model's config has them."""
        return [asdict(label) for label in self.labels]


def read_label_set(path: Path) -> LabelSet:
    """Read a label file; the set's name is the file's, without its suffix.

    A malformed line, a class that occurs twice, and a missing or empty file raise `LabelError`.
    """
    return _read(path, missing="label_sets in params.yaml names it")


def read_classes(path: Path) -> LabelSet:
    """Read a data set's own list of classes: the same format, the same errors."""
    return _read(path, missing="it belongs to the data set's annotations")


def check(label_set: LabelSet, classes: LabelSet) -> None:
    """Raise `LabelError` with a line for each label that is not among the classes.

    A name that differs from the data set's own is only a warning: the diary shows the user's wording.
    """
    names = {label.id: label.name for label in classes.labels}
    unknown = []
    for label, line in zip(label_set.labels, label_set.lines, strict=True):
        if label.id not in names:
            unknown.append(
                f"{label_set.path}:{line}: {label.id} is not among the {len(names)} classes of {classes.path}"
            )
        elif label.name != names[label.id]:
            log.warning(
                "%s:%d: %s is %r here and %r in %s",
                label_set.path,
                line,
                label.id,
                label.name,
                names[label.id],
                classes.path,
            )
    if unknown:
        raise LabelError("\n".join(unknown))


def warn_of_unseen(label_set: LabelSet, videos: Manifest) -> None:
    """Warn of labels that no video of train or of val carries.

    What train never shows is not learned; what val never shows takes the threshold of all labels.
    """
    counts = videos.num_videos_with(label_set.ids)
    for split in ("train", "val"):
        unseen = [label for label, number in counts.items() if not number[split]]
        if unseen:
            log.warning(
                "%s: no video of %s carries %d of %d labels: %s",
                *(label_set.path, split, len(unseen), len(counts), ", ".join(unseen)),
            )


def _read(path: Path, missing: str) -> LabelSet:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise LabelError(f"{path}: no such file; {missing}") from None
    except UnicodeDecodeError as error:
        raise LabelError(f"{path}: not a text file in UTF-8: {error.reason} at byte {error.start}") from error
    labels: list[Label] = []
    lines: dict[str, int] = {}
    faults = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            faults.append(f'{path}:{number}: expected a line like "c015 Holding a phone/camera", got {line!r}')
        elif match[1] in lines:
            faults.append(f"{path}:{number}: {match[1]} is already on line {lines[match[1]]}")
        else:
            lines[match[1]] = number
            labels.append(Label(match[1], match[2]))
    if not labels and not faults:
        faults.append(f"{path}: names no label")
    if faults:
        raise LabelError("\n".join(faults))
    return LabelSet(path.stem, tuple(labels), path, tuple(lines.values()))
