"""`diary write`, one video after the other: one page for the day, with pictures and videos that are there."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest
from click.testing import CliRunner
from PIL import Image

from pipeline.cli.__main__ import main as diary
from tests.diaries import Page
from tests.model_folders import make_model_folder
from tests.videos import evenly, write_video

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


def test_a_day_grows_with_each_command(tmp_path: Path) -> None:
    """Two commands on two videos of one day: the page has both, and its paths are printed at the end."""
    model, out = make_model_folder(tmp_path), tmp_path / "diaries"
    videos = [tmp_path / "my videos" / f"20260314_{hour}0000.mp4" for hour in ("08", "12")]
    videos[0].parent.mkdir()
    write_video(videos[0], evenly(36, 12), size=(64, 48), faststart=True)
    shutil.copy(videos[0], videos[1])
    for video in videos:
        result = CliRunner().invoke(diary, ["write", str(video), "-o", str(out), "--model", str(model)])
        assert result.exit_code == 0, result.output
        printed = result.stdout.splitlines()
        assert printed == [str(out / "2026-03-14.html"), str(out / "index.html")]
    page = Page((out / "2026-03-14.html").read_text(encoding="utf-8"))
    assert "2 recordings" in page.text
    pictures = [out / unquote(picture["src"] or "") for picture in page.pictures]
    assert {picture.parent.parent.name for picture in pictures} == {video.stem for video in videos}
    for picture in pictures:
        with Image.open(picture) as opened:
            assert opened.size == (64, 48)
    played = {(out / unquote(link.partition("#")[0])).resolve() for link in page.links if "#t=" in link}
    assert played == set(videos)
    markdown = (out / "2026-03-14.md").read_text(encoding="utf-8")
    assert all(video.name in markdown for video in videos)
