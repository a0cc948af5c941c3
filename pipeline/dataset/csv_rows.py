"""CSV files of annotations: their rows, each with its line, and what is wrong with them, all at once."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.dataset.manifest import ManifestError

_MOST_FAULTS = 20


def csv_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[Any, Any]]]:
    """Rows with the line that each begins on: a quoted text may span several lines.

    A field that is missing is None, and what is more than the header names stands under None.
    Raises `ManifestError` where the file is not there or no CSV, and without one of the `columns`.
    """
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            absent = [name for name in columns if name not in (reader.fieldnames or ())]
            if absent:
                raise ManifestError(f"{path}:1: no column {', '.join(absent)}; found {reader.fieldnames}")
            line = reader.line_num + 1
            for row in reader:
                yield line, row
                line = reader.line_num + 1
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such file") from None
    except csv.Error as error:
        raise ManifestError(f"{path}:{line}: {error}") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not a text file in UTF-8: {error.reason} at byte {error.start}") from error


def require_faultless(faults: Sequence[str]) -> None:
    """Raise `ManifestError` with the first of the faults, a line each, and how many more there are."""
    if faults:
        num_more = len(faults) - _MOST_FAULTS
        more = [f"{num_more} more rows like these"] if num_more > 0 else []
        raise ManifestError("\n".join([*faults[:_MOST_FAULTS], *more]))
