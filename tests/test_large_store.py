"""A store of a hundred thousand videos: bounded memory, few files, and the bytes that a small one has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from features.store.embeddings import read_embeddings
from tests.shared_world import made_up

NUM_VIDEOS = 100_000

WRITES = """
import resource, sys
from dataclasses import replace
from pathlib import Path
from features.store.embeddings import write_embeddings
from tests.shared_world import made_up

root, num_videos = Path(sys.argv[1]), int(sys.argv[2])
video = made_up(3)

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

write_embeddings(root / "few", {"x": 3}, lambda name: video, provenance={})
before = peak_mib()
names = {f"v{number:06}": 3 for number in range(num_videos)}
write_embeddings(root / "many", names, lambda name: video, provenance={})
print(peak_mib() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
def test_a_hundred_thousand_videos_are_few_files_and_little_memory(tmp_path: Path) -> None:
    """Memory is that of a chunk and of the names, whatever is stored: 300,000 rows here."""
    done = subprocess.run(
        [sys.executable, "-c", WRITES, tmp_path, str(NUM_VIDEOS)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 150
    assert sum(path.is_file() for path in (tmp_path / "many").rglob("*")) < 10_000
    embeddings, _ = read_embeddings(tmp_path / "many")
    assert len(embeddings) == 3 * NUM_VIDEOS
    assert embeddings.keys[-1] == (f"v{NUM_VIDEOS - 1:06}", 2)
    assert np.array_equal(embeddings.vectors["mean"][-3:], made_up(3).vectors["mean"])
