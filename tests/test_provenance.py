"""Every difference between two provenances is named, and only differences are."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.provenance import ProvenanceMismatch, differences, require_provenance

FOUND = {
    "backbone": {"id": "x", "sha256": "b"},
    "mean": [0.5, 0.25],
    "decoder": {"name": "pyav", "av": "14"},
    "more": 1,
}


def test_what_is_expected_is_there() -> None:
    """Keys that are not expected do not count; a tuple equals a list."""
    expected = {"mean": (0.5, 0.25), "backbone": {"id": "x", "sha256": "b"}}
    require_provenance(FOUND, expected=expected, path=Path("a"))
    require_provenance(FOUND, expected={}, path=Path("a"))
    require_provenance({"mean": (0.5, 0.25)}, expected={"mean": [0.5, 0.25]}, path=Path("a"))


def test_every_difference_is_named() -> None:
    """The error gives the path, and for each difference its key, what is wanted and what is found."""
    expected = {
        "backbone": {"id": "x", "sha256": "a"},
        "decoder": {"name": "pyav", "version": 2},
        "mean": [0.5],
        "precision": "fp32",
    }
    with pytest.raises(ProvenanceMismatch) as caught:
        require_provenance(FOUND, expected=expected, path=Path("data") / "x.zarr")
    assert str(caught.value) == (
        "data/x.zarr was made by something else: backbone.sha256: wanted 'a', found 'b'; "
        "decoder.av: wanted nothing, found '14'; decoder.version: wanted 2, found nothing; "
        "mean: wanted [0.5], found [0.5, 0.25]; precision: wanted 'fp32', found nothing; "
        "run the stage that writes it again"
    )


def test_a_value_beside_a_dict_is_one_difference() -> None:
    """If only one side has a dict, both values are shown."""
    assert differences({"a": 1}, expected={"a": {"b": 2}}) == ["a: wanted {'b': 2}, found 1"]
