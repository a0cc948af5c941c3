"""Which videos are found: by content, through links, once, and with a word on all that is passed over."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from pipeline.diaries.selection import NothingSelected, select_videos
from tests.videos import evenly, write_sound, write_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", evenly(6, 12), size=(64, 48))


def names(paths: tuple[Path, ...]) -> list[str]:
    return [path.name for path in paths]


def test_a_video_is_known_by_its_content(clip: Path, tmp_path: Path) -> None:
    """Any suffix or none will do; text, a picture and sound are passed over, counted and named."""
    for name in ("a.MP4", "b.lrv", "c.insv", "d", "sub/e.mp4.backup"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(clip, tmp_path / name)
    write_video(tmp_path / "f.flv", evenly(6, 12), codec="flv", size=(64, 48), options={})
    (tmp_path / "notes.txt").write_text("bread, milk")
    (tmp_path / "empty.dat").touch()
    Image.new("RGB", (32, 32)).save(tmp_path / "photo.jpg")
    write_sound(tmp_path / "voice.m4a", 0.5)
    selection = select_videos([tmp_path])
    assert names(selection.videos) == ["a.MP4", "b.lrv", "c.insv", "d", "f.flv", "e.mp4.backup"]
    assert selection.faults == {}
    assert selection.skipped_line == ("skipped 4 files that are no video: empty.dat, notes.txt, photo.jpg, voice.m4a")


def test_many_skipped_files_are_counted_and_the_first_ones_named(tmp_path: Path, clip: Path) -> None:
    """A folder of thousands of pictures does not fill the screen; a strange name cannot write on it."""
    shutil.copy(clip, tmp_path)
    for number in range(12):
        (tmp_path / f"{number:02}.txt").write_text("x")
    (tmp_path / "00\x1b[2J\n.txt").write_text("x")
    line = select_videos([tmp_path]).skipped_line
    assert line.startswith("skipped 13 files that are no video: 00\\x1b[2J\\n.txt, 00.txt, ")
    assert line.endswith("08.txt, …")
    assert select_videos([clip]).skipped_line == ""


def test_linked_folders_are_followed_once_and_in_circles(clip: Path, tmp_path: Path) -> None:
    """A folder on another disk, linked, is part of the selection; links to each other and to themselves end."""
    disk, recordings = tmp_path / "disk", tmp_path / "recordings"
    disk.mkdir()
    recordings.mkdir()
    shutil.copy(clip, disk / "far.mp4")
    (recordings / "Charades_v1_480").symlink_to(disk)
    (recordings / "again").symlink_to(disk)
    (disk / "back").symlink_to(recordings)
    (recordings / "self").symlink_to(recordings / "self")
    (recordings / "linked.mp4").symlink_to(disk / "far.mp4")
    selection = select_videos([recordings])
    assert names(selection.videos) == ["far.mp4"]
    assert names(selection.skipped) == ["self"]
    whole = tmp_path / "link"
    whole.symlink_to(recordings)
    assert names(select_videos([whole]).videos) == ["far.mp4"]


def test_a_file_named_twice_is_one_video(clip: Path, tmp_path: Path) -> None:
    """By its folder and by its name, or through a link; the order is that of the first mention."""
    shutil.copy(clip, tmp_path / "b.mp4")
    shutil.copy(clip, tmp_path / "a.mp4")
    (tmp_path / "c.mp4").symlink_to("a.mp4")
    assert names(select_videos([tmp_path / "b.mp4", tmp_path, tmp_path / "a.mp4"]).videos) == ["b.mp4", "a.mp4"]
    assert select_videos([tmp_path / "b.mp4", tmp_path]).faults == {}


def test_hidden_files_and_the_output_are_left_out(clip: Path, tmp_path: Path) -> None:
    """What macOS and editors put beside a video is no video of the user's, and neither is an earlier run's output."""
    for name in (".hidden.mp4", "._clip.mp4", ".Trash/x.mp4", "out/y.mp4", "clip.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(clip, tmp_path / name)
    assert names(select_videos([tmp_path], leave_out=tmp_path / "out").videos) == ["clip.mp4"]
    assert names(select_videos([tmp_path / "out"], leave_out=tmp_path / "out").videos) == ["y.mp4"]
    assert names(select_videos([tmp_path / ".hidden.mp4"]).videos) == [".hidden.mp4"]


def test_what_cannot_be_read_is_a_fault_and_no_exception(clip: Path, tmp_path: Path) -> None:
    """A missing file, a broken link, a cut video in a folder, a folder without videos, a name that is too long."""
    folder, empty = tmp_path / "folder", tmp_path / "empty"
    folder.mkdir()
    empty.mkdir()
    shutil.copy(clip, folder / "good.mp4")
    (folder / "cut.mp4").write_bytes(clip.read_bytes()[:200])
    (folder / "broken.mov").symlink_to("nowhere")
    (folder / "empty.avi").touch()
    os.mkfifo(folder / "pipe.ts")
    long = tmp_path / ("x" * 300 + ".mp4")
    selection = select_videos([tmp_path / "missing.mp4", folder, empty, long])
    assert names(selection.videos)[:-1] == ["missing.mp4", "broken.mov", "cut.mp4", "empty.avi", "good.mp4", "pipe.ts"]
    faults = {path.name: line for path, line in selection.faults.items()}
    assert faults.keys() == {"missing.mp4", "broken.mov", "cut.mp4", "empty.avi", "pipe.ts", "empty", long.name}
    assert "no video in this folder" in faults["empty"]
    assert "the file is empty" in faults["empty.avi"]
    assert "File name too long" in faults[long.name]
    assert all("\n" not in line and "/" in line for line in faults.values())


def test_a_file_or_folder_without_permission_is_a_fault(clip: Path, tmp_path: Path) -> None:
    """It is named with the system's reason, and the others are found."""
    for name in ("good.mp4", "closed.mp4", "closed/inside.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(clip, tmp_path / name)
    for name in ("closed.mp4", "closed"):
        (tmp_path / name).chmod(0)
    if os.access(tmp_path / "closed.mp4", os.R_OK):
        pytest.skip("root may read everything")
    selection = select_videos([tmp_path])
    (tmp_path / "closed").chmod(0o700)
    assert names(selection.videos) == ["closed.mp4", "good.mp4"]
    assert [line.endswith("Permission denied") for line in selection.faults.values()] == [True, True]


def test_nothing_is_an_error_with_a_sentence(tmp_path: Path) -> None:
    """It says where there was no video, and what was there instead."""
    (tmp_path / "notes.txt").write_text("bread")
    with pytest.raises(NothingSelected, match=r"no video in this folder\nskipped 1 file that is no video: notes.txt"):
        select_videos([tmp_path])
