"""Fixtures that several test modules share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.forks import ForkServer
from tests.offline import on_this_machine


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or fills the cache of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("VIDEO_DIARY_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def stays_on_this_machine() -> Iterator[None]:
    """No test asks another machine for anything."""
    with on_this_machine() as asked:
        yield
    assert asked == []


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch computes in one thread: sums are the same on any machine, and small operations do not wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    started = ForkServer()
    yield started
    started.close()
