"""Provenance: what made a file, as plain JSON, and whether it is what a reader expects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_ABSENT = object()


class ProvenanceMismatch(ValueError):
    """A file was made by something else than what it is to be used with; the message names every difference."""


def require_provenance(found: Mapping[str, Any], *, expected: Mapping[str, Any], path: Path) -> None:
    """Raise `ProvenanceMismatch` unless all that is `expected` of the file at `path` is in its provenance `found`."""
    different = differences(found, expected=expected)
    if different:
        raise ProvenanceMismatch(
            f"{path} was made by something else: {'; '.join(different)}; run the stage that writes it again"
        )


def differences(found: Mapping[str, Any], *, expected: Mapping[str, Any]) -> list[str]:
    """One line for each difference, such as "backbone.sha256: wanted 'a', found 'b'".

    Keys that `expected` does not have are not compared; the values of those that it has are equal as a whole. A tuple
    equals the list that JSON makes of it.
    """
    found, expected = json.loads(json.dumps(found)), json.loads(json.dumps(expected))
    return [line for key in expected for line in _differences(key, expected[key], found.get(key, _ABSENT))]


def _differences(key: str, wanted: Any, found: Any) -> Iterator[str]:
    if isinstance(wanted, dict) and isinstance(found, dict):
        for name in sorted(wanted.keys() | found.keys()):
            yield from _differences(f"{key}.{name}", wanted.get(name, _ABSENT), found.get(name, _ABSENT))
    elif wanted != found:
        wanted_text, found_text = ("nothing" if value is _ABSENT else repr(value) for value in (wanted, found))
        yield f"{key}: wanted {wanted_text}, found {found_text}"
