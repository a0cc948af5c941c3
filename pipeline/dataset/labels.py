"""Label sets: plain files that name the actions to recognise. Knows class ids and names; knows no video.

A line is "c015 Holding a phone/camera"; blank lines and lines that begin with `#` are passed over.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

_LINE = re.compile(r"(c\d{3})\s+(\S.*)")


class LabelError(Exception):
    """A label file cannot be used. The message has a line, `file:line: …`, for each fault."""


@dataclass(frozen=True)
class Label:
    """A class of the data set, such as c015, and the name that people read."""

    id: str
    name: str


@dataclass(frozen=True)
class LabelSet:
    """Labels in the order of their file, which is the order of a head's outputs; no id twice, at least one.

    `lines` says on which line of `path` each label stands.
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


def read_label_set(path: Path) -> LabelSet:
    """Read a label file; the set bears the file's name without its ending.

    Malformed lines, a class that stands twice, a missing or an empty file raise `LabelError`.
    """
    return _read(path, missing="label_sets in params.yaml names it")


def read_classes(path: Path) -> LabelSet:
    """Read a data set's own list of classes, such as Charades_v1_classes.txt; the same format, the same errors."""
    return _read(path, missing="it belongs to the data set's annotations")


def check(label_set: LabelSet, classes: LabelSet) -> None:
    """Raise `LabelError` if a label is not among the classes, with a line for each.

    A name that differs from the data set's own is only a warning: the user's wording is what the diary shows.
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
                label_set.path, line, label.id, label.name, names[label.id], classes.path,
            )  # fmt: skip
    if unknown:
        raise LabelError("\n".join(unknown))


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
            faults.append(f'{path}:{number}: a line like "c015 Holding a phone/camera" is wanted, got {line!r}')
        elif match[1] in lines:
            faults.append(f"{path}:{number}: {match[1]} stands on line {lines[match[1]]} already")
        else:
            lines[match[1]] = number
            labels.append(Label(match[1], match[2]))
    if not labels and not faults:
        faults.append(f"{path}: names no label")
    if faults:
        raise LabelError("\n".join(faults))
    return LabelSet(path.stem, tuple(labels), path, tuple(lines.values()))
