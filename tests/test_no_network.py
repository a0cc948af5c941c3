"""What speaks to other machines is in `fetch`, and, where params name a cluster or a shared cache, in `extract`.

Everything else runs where there is no network.
`tests/test_pipeline.py` runs `dvc repro` and the commands of its clone in such a place as well, and `tests/conftest.py`
keeps every test of this process on loopback.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.model_folders import make_model_folder
from tests.offline import on_this_machine, without_network
from tests.test_house import REPOSITORY, imported_names, sources
from tests.videos import evenly, write_video

needs_namespace = pytest.mark.skipif(not without_network(), reason="this system permits no namespace without network")
OVER_HTTP = {
    "requests",
    "huggingface_hub.snapshot_download",
    "urllib.request.urlopen",
    "http.client",
    "httpx",
    "httpx2",
    "aiohttp",
    "urllib3",
}
FETCH = "pipeline/stages/fetch.py"


def offline(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*without_network(), *command],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        text=True,
        capture_output=True,
        check=False,
    )


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """What each module imports, by its path."""
    return {
        path.relative_to(REPOSITORY).as_posix(): set(imported_names(path, REPOSITORY)) for path in sources(REPOSITORY)
    }


def test_one_room_speaks_http(imports: dict[str, set[str]]) -> None:
    """No other module imports what asks other machines for files."""
    speaking = {path for path, names in imports.items() if OVER_HTTP & names}
    assert {str(Path(path).parent) for path in speaking} == {"pipeline/download"}


def test_one_stage_enters_it(imports: dict[str, set[str]]) -> None:
    """Nothing but `fetch` imports from the room, and nothing imports `fetch`; so of `extract`."""

    def importing(module: str) -> set[str]:
        return {path for path, names in imports.items() if any(f"{name}.".startswith(f"{module}.") for name in names)}

    assert {path for path in importing("pipeline.download") if not path.startswith("pipeline/download/")} == {FETCH}
    assert importing("pipeline.stages.fetch") == set()
    assert importing("features.ray_engine") == {"pipeline/stages/extract.py"}
    assert importing("features.pieces.places.pieces_at") == {"pipeline/frozen.py"}


def test_no_test_of_this_process_reaches_another_machine() -> None:
    """The guard of all tests refuses an address that is not this machine's, and reports it."""
    address = ("203.0.113.7", 80)
    for kind, reach in (
        (socket.SOCK_STREAM, lambda own: own.connect(address)),
        (socket.SOCK_STREAM, lambda own: own.connect_ex(address)),
        (socket.SOCK_DGRAM, lambda own: own.sendto(b"", address)),
    ):
        with on_this_machine() as asked, socket.socket(type=kind) as own:
            with pytest.raises(OSError, match=r"no test may reach 203\.0\.113\.7"):
                reach(own)
            assert asked == ["203.0.113.7"]


@needs_namespace
def test_a_namespace_without_network_has_none(tmp_path: Path) -> None:
    """Loopback alone is there, so what runs in it uses no network."""
    done = offline("ip", "-json", "link", cwd=tmp_path)
    assert [link["ifname"] for link in json.loads(done.stdout)] == ["lo"]


@needs_namespace
@pytest.mark.slow
def test_diaries_are_written_without_a_network(tmp_path: Path) -> None:
    """`diary write`, with what a model folder holds."""
    model = make_model_folder(tmp_path / "model")
    video = write_video(tmp_path / "clip.mp4", evenly(36, 12), size=(64, 48), faststart=True)
    command = [sys.executable, "-m", "pipeline.cli", "write", "--model", str(model), str(video), "-o", "diaries"]
    done = offline(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "diaries").glob("*.html"))
