"""Roles of a profile's labels: a CSV file beside its label sets says how a story tells each label."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from pipeline.dataset.labels import LabelError, LabelSet
from reports.diary.roles import Role

COLUMNS = ["label", "role", "thing", "phrase", "together"]


def read_roles(path: Path) -> dict[str, Role]:
    """Read the roles by label id. Raises `LabelError` with one line `file:line: …` for each fault."""
    wanted = f"expected columns {','.join(COLUMNS)}"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, strict=True)
            header = next(rows, [])
            if header != COLUMNS:
                raise LabelError(f"{path}:1: {wanted}, got {','.join(header)!r}")
            numbered = [(rows.line_num, [value.strip() for value in row]) for row in rows if any(row)]
    except FileNotFoundError:
        raise LabelError(
            f"{path}: no such file; a file with the line {','.join(COLUMNS)} alone tells all labels plainly"
        ) from None
    except UnicodeDecodeError as error:
        raise LabelError(f"{path}: not a text file in UTF-8: {error.reason} at byte {error.start}") from error
    except csv.Error as error:
        raise LabelError(f"{path}:{rows.line_num}: {wanted}, but it is no CSV: {error}") from error
    roles: dict[str, Role] = {}
    lines: dict[str, int] = {}
    faults = []
    for line, row in numbered:
        try:
            label, *fields = row
            if len(fields) != 4:
                raise ValueError(f"{wanted}, got {len(row)} values")
            if not label or label in roles:
                raise ValueError(f"{label} is already on line {lines[label]}" if label else "a label is missing")
            roles[label], lines[label] = Role(*fields), line
        except ValueError as error:
            faults.append(f"{path}:{line}: {error}")
    if faults:
        raise LabelError("\n".join(faults))
    return roles


def check_roles(path: Path, roles: Mapping[str, Role], classes: LabelSet) -> None:
    """Raise `LabelError` with a line for each role of what is not among the classes."""
    known = set(classes.ids)
    unknown = [label for label in roles if label not in known]
    if unknown:
        raise LabelError(
            "\n".join(f"{path}: {label} is not among the {len(known)} classes of {classes.path}" for label in unknown)
        )
