"""An archive with any byte changed is unpacked as it was, or refused: nothing else comes out of any way of packing."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

import pytest

from pipeline.download.archives import unpack
from pipeline.download.resumable import DownloadError

FILES = {"a.mp4": random.Random(0).randbytes(300) * 2, "a film.mp4": b"\0" * 40, "über.csv": "ä;b\n".encode() * 9}


@pytest.mark.slow
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_any_byte_may_be_wrong(tmp_path: Path, method: int) -> None:
    """In the content of a file or in the archive's directory, which may hide a file behind another one's comment."""
    archive, out = tmp_path / "films.zip", tmp_path / "out" / "films"
    with zipfile.ZipFile(archive, "w", method) as made:
        for name, content in FILES.items():
            made.writestr(name, content)
    whole = archive.read_bytes()
    unpack(archive, out, Path(".record.json"))
    assert {name: (out / name).read_bytes() for name in FILES} == FILES
    num_refused, directory = 0, whole.index(b"PK\x01\x02")
    for place in (*range(0, directory, 9), *range(directory, len(whole))):
        archive.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            unpack(archive, out, Path(".record.json"))
        except DownloadError:
            num_refused += 1
        else:
            files = [path for path in out.iterdir() if path.name != ".record.json"]
            assert sorted(path.read_bytes() for path in files) == sorted(FILES.values()), place
    assert num_refused > 50
