"""Ids of recordings: safe on every file system, different, and the same again; and what a folder of diaries keeps."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
import unicodedata
from pathlib import Path

import pytest

from features.files import locked, write_json, write_text
from pipeline.diaries.names import VideoIdentity, recording_ids, safe_stem
from pipeline.diaries.output import NotOurs, OutputFolder, Planned
from pipeline.diaries.selection import Selection, select_videos
from tests.videos import evenly, write_video


@pytest.mark.parametrize(
    ("file_name", "stem"),
    [
        ("from my phone.mov", "from my phone"),
        ("2026.03.14.mp4", "2026.03.14"),
        ("no suffix", "no suffix"),
        ("...mp4", "mp4"),
        ("..", "video"),
        ("....", "video"),
        (".hidden.mp4", "hidden"),
        ("trailing . .mp4", "trailing"),
        (" \u00a0lead.mp4", "lead"),
        ('a/b\\c:d*e?f"g<h>i|j.mp4', "a_b_c_d_e_f_g_h_i_j"),
        ("new\nline\x00\x1b\x7f.mp4", "new_line___"),
        ("li\u2028ne \u202egnp.mp4", "li_ne _gnp"),
        ("caf\udce9.mp4", "caf_"),
        ("NUL.mp4", "_NUL"),
        ("com1.tar.mp4", "_com1.tar"),
        ("COM¹.mp4", "_COM¹"),
        ("aux .mp4", "_aux"),
        ("console.mp4", "console"),
        ("a.partial.mp4", "a_partial"),
        ("a.PARTIAL.mp4", "a_partial"),
        (unicodedata.normalize("NFD", "für.mp4"), unicodedata.normalize("NFC", "für")),
        ("日本 🎥.mp4", "日本 🎥"),
    ],
)
def test_a_stem_is_safe_everywhere(file_name: str, stem: str) -> None:
    """No separator, control, stray byte, reserved name or end that Windows drops; readable names stay as they are."""
    assert safe_stem(file_name) == stem


@pytest.mark.parametrize("letter", ["x", "é", "🎥"])
def test_a_long_stem_leaves_room_for_what_is_added(letter: str) -> None:
    """Behind it come a hash and ".partial"; a letter is not cut in two."""
    stem = safe_stem(letter * 250 + ".mp4")
    assert set(stem) == {letter}
    assert 100 < len(stem.encode()) <= 120


def ids(names: str, *, known: dict[VideoIdentity, str] | None = None, occupied: str = "") -> list[str]:
    """Ids of files `name:hash`, separated by spaces."""
    files = [VideoIdentity(*name.split(":")) for name in names.split()]
    return recording_ids(files, known=(known or {}).items(), occupied=occupied.split())


def test_ids_of_a_run_are_different() -> None:
    """Files that share a stem, in any case and normal form, carry their hashes, whatever their order."""
    assert ids("a.mp4:aaaaaaaaaa b.mp4:bbbbbbbbbb") == ["a", "b"]
    assert ids("a.mp4:1111111122 A.mov:2222222233 b.mp4:3") == ["a-11111111", "A-22222222", "b"]
    assert ids("b.mp4:3 A.mov:2222222233 a.mp4:1111111122") == ["b", "A-22222222", "a-11111111"]
    nfd = unicodedata.normalize("NFD", "ü")
    assert len(set(ids(f"ü.mp4:11111111 {nfd}.mp4:22222222"))) == 2
    assert ids("a~2.mp4:1 a.mp4:2 a.mp4:3") == ["a~2", "a-2", "a-3"]
    assert ids("a.mp4:1 a.mp4:1 a-1.mp4:9") == ["a-1", "a-1-2", "a-1-9"]


def test_an_id_stays_when_files_are_added() -> None:
    """A video that has an id keeps it; others avoid it. Occupied names are avoided in any case."""
    known = {VideoIdentity("a.mp4", "1"): "a"}
    assert ids("a.mp4:2 a.mp4:1", known=known) == ["a-2", "a"]
    assert ids("a.mov:1", known=known) == ["a-1"]
    assert ids("a.mp4:1 a.mp4:1", known=known) == ["a", "a-1"]
    assert ids("Index.html.mp4:1 b.mp4:2", occupied="index.html B") == ["Index.html-1", "b-2"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", evenly(6, 12), size=(64, 48))


def write_all(out: Path, videos: list[Path], content: str = "x") -> list[str]:
    """Write a file for each video, as a run does; their ids."""
    output = OutputFolder(out)
    planned = output.plan(select_videos(videos))
    rows = [video.row for video in planned if video.row is not None]
    for row in rows:
        with output.writing(row, is_damaged=False) as folder:
            write_text(folder / "events.jsonl", content)
    return [row.id for row in rows]


def make_folders(parent: Path, *names: str) -> list[Path]:
    for name in names:
        (parent / name).mkdir()
    return [parent / name for name in names]


def manifest(out: Path) -> dict[str, object]:
    return {row["id"]: row["files"] for row in json.loads((out / "manifest.json").read_text())["recordings"]}


def test_a_later_run_keeps_the_diaries_of_other_videos(clip: Path, tmp_path: Path) -> None:
    """with-gps.mp4 does not replace the diary of with-gps.mov; the same video replaces its own; all are listed."""
    out = tmp_path / "out"
    for suffix in ("mov", "mp4"):
        shutil.copy(clip, tmp_path / f"with-gps.{suffix}")
    assert write_all(out, [tmp_path / "with-gps.mov"], "mov") == ["with-gps"]
    (second,) = write_all(out, [tmp_path / "with-gps.mp4"], "mp4")
    assert second.startswith("with-gps-")
    assert write_all(out, [tmp_path / "with-gps.mp4", tmp_path / "with-gps.mov"], "new") == [second, "with-gps"]
    assert write_all(out, [tmp_path / "with-gps.mov"], "newer") == ["with-gps"]
    assert (out / "with-gps" / "events.jsonl").read_text() == "newer"
    twins = [Path(shutil.copy(clip, tmp_path / folder / "a.mp4")) for folder in make_folders(tmp_path, "x", "y")]
    assert write_all(tmp_path / "twins", twins) == write_all(tmp_path / "twins", twins)
    assert len(manifest(tmp_path / "twins")) == 2
    assert (out / second / "events.jsonl").read_text() == "new"
    assert manifest(out) == {"with-gps": ["with-gps/events.jsonl"], second: [f"{second}/events.jsonl"]}


def test_names_of_the_runs_own_files_and_of_the_users_are_avoided(
    clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A video named as a page or the manifest; a file, folder or link that was there: told before the work, kept."""
    out, videos = tmp_path / "out", []
    for name in (
        *("index.html.mp4", "manifest.json.mp4", "...mp4", "file.mp4", "folder.mp4", "link.mp4", "half.mp4"),
        *("2026-03-14.html.mp4", "2026-03-14.mp4"),
    ):
        videos.append(Path(shutil.copy(clip, tmp_path / name)))
    for name in ("file", "folder/mine.txt", "half.partial/mine.txt"):
        write_text(out / name, "mine")
    (out / "link").symlink_to(tmp_path / "folder")
    caplog.set_level(logging.INFO)
    written = write_all(out, videos)
    assert [name.partition("-")[0] for name in written] == [
        *("index.html", "manifest.json", "mp4", "file", "folder", "link", "half", "2026", "2026")
    ]
    assert written[7].startswith("2026-03-14.html-")
    assert written[8] == "2026-03-14"
    assert written[2] == "mp4"
    assert all((out / name / "events.jsonl").is_file() for name in written)
    assert f"file.mp4: its diary goes to {written[3]}, since the name file is not free" in caplog.text
    assert all((out / name).read_text() == "mine" for name in ("file", "folder/mine.txt", "half.partial/mine.txt"))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["out", *(video.name for video in videos)])
    assert write_all(out, videos) == written


def test_a_recordings_folder_is_replaced_but_for_files_of_the_users(clip: Path, tmp_path: Path) -> None:
    """Pages that are not written any more go; notes that somebody put beside them stay, folders and links too."""
    output = OutputFolder(tmp_path / "out")
    (planned,) = output.plan(select_videos([clip]))
    assert planned.row is not None
    for name in ("old.html", "new.html"):
        with output.writing(planned.row, is_damaged=False) as folder:
            write_text(folder / name, name)
        write_text(tmp_path / "out" / "clip" / "notes" / "mine.txt", "mine")
        (tmp_path / "out" / "clip" / "link").unlink(missing_ok=True)
        (tmp_path / "out" / "clip" / "link").symlink_to("nowhere")
    with output.writing(planned.row, is_damaged=True) as folder:
        write_text(folder / "new.html", "newest")
    assert {path.name for path in (tmp_path / "out" / "clip").iterdir()} == {"new.html", "notes", "link"}
    assert (tmp_path / "out" / "clip" / "new.html").read_text() == "newest"
    (row,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["recordings"]
    assert row["files"] == ["clip/new.html"]
    assert row["status"] == "damaged"


def test_an_error_keeps_the_earlier_diary_and_its_row(clip: Path, tmp_path: Path) -> None:
    """Also of a run that is interrupted: nothing half-written is listed or left."""
    out = tmp_path / "out"
    write_all(out, [clip], "old")
    before = (out / "manifest.json").read_text()

    def fails() -> None:
        output = OutputFolder(out)
        (planned,) = output.plan(select_videos([clip]))
        assert planned.row is not None
        with output.writing(planned.row, is_damaged=False) as folder:
            write_text(folder / "events.jsonl", "new")
            assert '"unfinished"' in (out / "manifest.json").read_text()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert (out / "clip" / "events.jsonl").read_text() == "old"
    assert (out / "manifest.json").read_text() == before
    assert not (out / "clip.partial").exists()


def test_what_a_killed_run_left_is_cleared(clip: Path, tmp_path: Path) -> None:
    """A row without a folder goes and its partial folder with it; the name is free again."""
    out = tmp_path / "out"
    write_all(out, [clip])
    text = (out / "manifest.json").read_text().replace('"written"', '"unfinished"')
    write_text(out / "manifest.json", text)
    (out / "clip").rename(out / "clip.partial")
    other = Path(shutil.copy(clip, tmp_path / "clip.mov"))
    assert write_all(out, [other]) == ["clip"]
    assert {path.name for path in out.iterdir()} == {"clip", "manifest.json"}


def test_two_runs_into_one_folder_take_turns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The second one says that it waits, and enters when the first one is done."""
    entered = threading.Event()

    def second() -> None:
        with locked(tmp_path / "out"):
            entered.set()

    with locked(tmp_path / "out"):
        thread = threading.Thread(target=second, daemon=True)
        thread.start()
        while "waiting for it to end" not in caplog.text:
            time.sleep(0.01)
        assert not entered.is_set()
    assert entered.wait(60)
    thread.join()


@pytest.mark.parametrize("text", ["", "[]", '{"version": 99}', '{"version": 2, "recordings": [{"id": "../x"}]}', "\0"])
def test_somebody_elses_files_are_not_replaced(text: str, tmp_path: Path) -> None:
    """A manifest or an index that no run wrote is a sentence, and stays."""
    write_text(tmp_path / "manifest.json", text)
    with pytest.raises(NotOurs, match=r"manifest.json is not a list of diaries .*: move it, or name another folder"):
        OutputFolder(tmp_path)
    assert (tmp_path / "manifest.json").read_text() == text
    (tmp_path / "manifest.json").unlink()
    write_text(tmp_path / "index.html", "Dear diary")
    with pytest.raises(NotOurs, match=r"index\.html was not written here"):
        OutputFolder(tmp_path)


def test_a_manifest_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    """An id that is a path, as in a manifest that somebody edited, is refused."""
    row = {"id": "../x", "file_name": "x.mp4", "sha256": "0", "status": "written", "files": []}
    entry = {"key": "x", "headline": "", "summary": "", "observed_ms": 0, "num_events": 0, "recorded": []}
    page = {"key": "x", "files": ["../x.html"], "recordings": [], "entry": entry}
    for rows, pages, told in (([row], [], "is no name of a folder"), ([], [page], "are no names of files")):
        write_json(tmp_path / "manifest.json", {"version": 2, "recordings": rows, "pages": pages, "failed": []})
        with pytest.raises(NotOurs, match=told):
            OutputFolder(tmp_path)


def test_a_video_that_goes_away_before_it_is_read_is_a_fault(tmp_path: Path, clip: Path) -> None:
    """The plan keeps the order, and says which file is not there."""
    gone = tmp_path / "gone.mp4"
    planned = OutputFolder(tmp_path / "out").plan(Selection((gone, clip), {}, ()))
    assert planned[0] == Planned(gone, None, f"{gone}: cannot be read: not a file (found: nothing)")
    assert planned[1].row is not None
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["failed"] == [
        {"file_name": "gone.mp4", "reason": f"{gone}: cannot be read: not a file (found: nothing)"}
    ]
