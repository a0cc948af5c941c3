"""A process may hold the cache more than once, on every system."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from features.pieces.shared_lock import held_alone, held_together


@pytest.mark.parametrize("platform", [sys.platform, "win32"])
def test_a_process_may_hold_the_folder_more_than_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    """A stage that holds it calls what holds it, too, and does not wait for itself; nobody holds it alone meanwhile."""
    monkeypatch.setattr(sys, "platform", platform)
    done: list[bool] = []

    def hold() -> None:
        with held_together(tmp_path), held_together(tmp_path), held_alone(tmp_path) as is_alone:
            done.append(is_alone)
        with held_alone(tmp_path) as is_alone:
            done.append(is_alone)

    holding = threading.Thread(target=hold, daemon=True)
    holding.start()
    holding.join(timeout=20)
    assert done == [False, True]
