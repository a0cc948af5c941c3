"""When a recording begins: sources are weighed against each other and against the duration."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import av
import pytest

from features.decode.container import UnreadableVideo
from features.decode.recorded_at import ClockTags, read_clock_tags
from reports.diary.file_names import gopro_chapter, time_in_name
from reports.diary.readings import CHAPTER, FOLLOWS, GIVEN, GPS, METADATA, MODIFIED, NAME, UNKNOWN, VideoFile
from reports.diary.starts import ImpossibleTime, RecordingStart, recording_starts
from tests.videos import numbered_picture

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
LAST_WEEK_S = datetime(2026, 11, 20, 12, 0, tzinfo=UTC).timestamp()


def file(
    name: str = "a.mp4", duration_s: float | None = 180, modified_s: float | None = LAST_WEEK_S, /, **tags: str
) -> VideoFile:
    maker = tags.pop("maker", "")
    return VideoFile(name, modified_s, ClockTags(tags, maker), duration_s)


def starts(*files: VideoFile, given: datetime | None = None) -> list[RecordingStart]:
    return recording_starts(files, given=given, zone=BERLIN, now=NOW)


def start(name: str = "a.mp4", duration_s: float | None = 180, /, **tags: str) -> RecordingStart:
    return starts(file(name, duration_s, **tags))[0]


def write_tagged(path: Path, tags: Mapping[str, str], *, telemetry: tuple[bytes, ...] = ()) -> Path:
    """Two seconds of video with tags in its head, and a payload of a GoPro's telemetry for each second."""
    options = {} if path.suffix == ".avi" else {"movflags": "use_metadata_tags"}
    with av.open(str(path), "w", options={} if telemetry or path.suffix in (".mkv", ".flv") else options) as container:
        container.metadata.update(tags)
        stream = container.add_stream("flv" if path.suffix == ".flv" else "mpeg4", rate=12)
        stream.width, stream.height = 64, 48
        track = container.add_data_stream("bin_data") if telemetry else None
        if track is not None:
            track.time_base = Fraction(1, 1000)
            track.metadata["handler_name"] = "GoPro MET"
        for k in range(24):
            frame = av.VideoFrame.from_ndarray(numbered_picture(k, 64, 48), format="rgb24")
            container.mux(stream.encode(frame))
        for second, payload in enumerate(telemetry):
            packet = av.Packet(payload)
            assert track is not None
            packet.stream, packet.time_base = track, Fraction(1, 1000)
            packet.pts = packet.dts = 1000 * second
            packet.duration = 1000
            container.mux(packet)
        container.mux(stream.encode())
    return path


def gpsu(text: str, fix: int = 3) -> bytes:
    """GPS time as cameras up to the HERO10 write it."""
    return b"GPSFL\x04\x00\x01" + struct.pack(">I", fix) + b"GPSUU\x10\x00\x01" + text.encode()


def gps9(moment: datetime, fix: int = 3) -> bytes:
    """GPS time as cameras from the HERO11 on write it."""
    since = moment - datetime(2000, 1, 1, tzinfo=UTC)
    ms = (since - timedelta(days=since.days)) // timedelta(milliseconds=1)
    return b"GPS9?\x20\x00\x01" + struct.pack(">7i2H", 0, 0, 0, 0, 0, since.days, ms, 120, fix)


def berlin(hour: int, minute: int = 0, second: int = 0, day: int = 14) -> datetime:
    return datetime(2026, 3, day, hour, minute, second, tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("name", "iso"),
    [
        ("PXL_20260314_080211123.mp4", "2026-03-14T08:02:11.123000+00:00"),
        ("PXL_20260314_080211123.TS.mp4", "2026-03-14T08:02:11.123000+00:00"),
        ("GMT20260314-080211_Recording_1920x1080.mp4", "2026-03-14T08:02:11+00:00"),
        ("20260314T080211Z.mp4", "2026-03-14T08:02:11+00:00"),
        ("2026-03-14T08:02:11-05:00.mkv", "2026-03-14T08:02:11-05:00"),
        ("VID_20260314_080211.mp4", "2026-03-14T08:02:11"),
        ("VID20260314080211.mp4", "2026-03-14T08:02:11"),
        ("20260314_080211.mp4", "2026-03-14T08:02:11"),
        ("20260314_080211(0).mp4", "2026-03-14T08:02:11"),
        ("DJI_20260314080211_0001_D.MP4", "2026-03-14T08:02:11"),
        ("2026_0314_080211_001.MP4", "2026-03-14T08:02:11"),
        ("REC_2026_03_14_08_02_11_F.MP4", "2026-03-14T08:02:11"),
        ("WIN_20260314_08_02_11_Pro.mp4", "2026-03-14T08:02:11"),
        ("Screen Recording 2026-03-14 at 3.04.05 PM.mov", "2026-03-14T15:04:05"),
        ("Screen Recording 2026-03-14 at 3.04.05\u202fPM.mov", "2026-03-14T15:04:05"),
        ("Screen Recording 2026-03-14 at 12.04.05 AM.mov", "2026-03-14T00:04:05"),
        ("Bildschirmaufnahme 2026-03-14 um 15.04.05.mov", "2026-03-14T15:04:05"),
        ("Screen Recording 2026-03-14 080211.mp4", "2026-03-14T08:02:11"),
        ("Screencast from 14.03.2026 08:02:11.webm", "2026-03-14T08:02:11"),
        ("2026-03-14 08-02-11.mkv", "2026-03-14T08:02:11"),
        ("Desktop 2026.03.14 - 08.02.11.03.DVR.mp4", "2026-03-14T08:02:11"),
        ("vlc-record-2026-03-14-08h02m11s-film.mp4", "2026-03-14T08:02:11"),
        ("signal-2026-03-14-08-02-11-123.mp4", "2026-03-14T08:02:11"),
        ("20260314080211_000123.mp4", "2026-03-14T08:02:11"),
        ("NVR_ch1_main_20260314080211_20260314081211.mp4", "2026-03-14T08:02:11"),
    ],
)
def test_the_names_that_makers_give(name: str, iso: str) -> None:
    """Local time, or UTC where the maker's names are so."""
    moment = time_in_name(name)
    assert moment is not None
    assert moment.isoformat() == iso


@pytest.mark.parametrize(
    "name",
    [
        *("IMG-20260314-WA0001.mp4", "VID-20260314-WA001234.mp4", "2026-03-14.mp4"),
        *("REC_0001.mp4", "Snapchat-1234567890123.mp4", "1773475331.mp4"),
        *("20269914_080211.mp4", "20260314_0802119.mp4", "20260314_256199.mp4", "2026-03-14 at 13.00.00 PM.mov"),
    ],
)
def test_digits_that_are_no_time(name: str) -> None:
    """A day alone, a counter, seconds since 1970 and impossible times of day are not taken for a time."""
    assert time_in_name(name) is None


def test_androids_metadata_has_the_end() -> None:
    """The name's start and the metadata's end agree over the duration; without a name the duration is taken off."""
    both = start("VID_20260314_080000.mp4", creation_time="2026-03-14T07:03:00.000000Z")
    assert (both.at, both.source, both.is_guess) == (berlin(8), NAME, False)
    assert "recording's end" in both.note
    alone = start("a.mp4", creation_time="2026-03-14T07:03:00.000000Z", maker="Android")
    assert (alone.at, alone.source) == (berlin(8), METADATA)
    pixel = start("PXL_20260314_070000123.mp4", creation_time="2026-03-14T07:03:01.000000Z", maker="Android")
    assert pixel.at == berlin(8) + timedelta(milliseconds=123)


def test_sources_that_agree() -> None:
    """Nothing to say where name and metadata give the same start; the metadata's is told by the machine's clock."""
    agreeing = start("20260314_080000.mp4", creation_time="2026-03-14T07:00:01Z")
    assert (agreeing.at, agreeing.source, agreeing.is_guess, agreeing.note) == (berlin(8, 0, 1), METADATA, False, "")


def test_a_tag_with_an_offset_keeps_it() -> None:
    """Apple's date has the offset of the place, and is believed before a `creation_time` in UTC."""
    abroad = start(
        **{"creation_time": "2026-03-14T20:00:00Z", "com.apple.quicktime.creationdate": "2026-03-14T08:00:00+0900"}
    )
    assert abroad.at is not None
    assert abroad.at.isoformat() == "2026-03-14T08:00:00+09:00"
    assert (abroad.source, abroad.is_guess) == (METADATA, False)
    assert [reading.start is not None for reading in abroad.readings] == [True, True]


def test_a_name_that_contradicts_the_metadata_wins_and_says_so() -> None:
    """An export writes a new `creation_time`; which of the two was believed is told, with both times."""
    exported = start("20260314_080000.mp4", creation_time="2026-03-15T18:11:07Z")
    assert (exported.at, exported.source, exported.is_guess) == (berlin(8), NAME, True)
    assert "2026-03-14 08:00:00 UTC+01:00" in exported.note
    assert "2026-03-15 19:11:07 UTC+01:00" in exported.note
    assert "The file name is believed." in exported.note


@pytest.mark.parametrize(
    "name",
    [
        "signal-2026-03-16-09-30-00-123.mp4",
        "WhatsApp Video 2026-03-16 at 09.30.00.mp4",
        "VIDEO-2026-03-16-09-30-00.mp4",
    ],
)
def test_a_messengers_name_is_of_the_saving(name: str) -> None:
    """It loses against metadata, and alone it is a guess."""
    both = start(name, creation_time="2026-03-14T07:00:00Z")
    assert (both.at, both.source, both.is_guess) == (berlin(8), METADATA, True)
    alone = start(name)
    assert (alone.at, alone.source, alone.is_guess) == (berlin(9, 30, day=16), NAME, True)


def test_a_tag_with_an_offset_wins_against_a_name() -> None:
    """What recorded it wrote the offset; a name may be anybody's."""
    renamed = start("20260314_200000.mp4", **{"com.apple.quicktime.creationdate": "2026-03-14T08:00:00+0100"})
    assert (renamed.at, renamed.source, renamed.is_guess) == (berlin(8), METADATA, True)
    assert "The metadata is believed." in renamed.note


def test_local_time_written_as_utc_is_a_doubt() -> None:
    """A camera that writes its local time as UTC is off by the zone; where the name says so, the name is believed."""
    camera = start("20260314_080000.mp4", creation_time="2026-03-14T08:00:00Z")
    assert (camera.at, camera.source, camera.is_guess) == (berlin(8), NAME, True)
    assert "as if it were UTC" in camera.note


def test_a_gopros_local_time_is_a_guess() -> None:
    """Without a second source, the maker's habit is told."""
    gopro = start("GX010123.MP4", creation_time="2026-03-14T08:00:00Z", maker="GoPro")
    assert (gopro.at, gopro.source, gopro.is_guess) == (berlin(8), METADATA, True)
    assert "as if it were UTC" in gopro.note


def test_a_recording_from_another_zone() -> None:
    """The name's local time and the metadata's UTC are one moment at some offset: that of the place."""
    tokyo = start("20260314_080000.mp4", creation_time="2026-03-13T23:00:00Z")
    assert tokyo.at == datetime(2026, 3, 14, 8, tzinfo=timezone(timedelta(hours=9)))
    assert tokyo.at.isoformat() == "2026-03-14T08:00:00+09:00"
    assert "UTC+09:00" in tokyo.note
    assert tokyo.is_guess


@pytest.mark.parametrize(
    "text",
    [
        *("1904-01-01T00:00:00.000000Z", "1970-01-01T00:00:00Z", "1980-01-01T00:00:00Z", "2015-01-01T00:00:00Z"),
        *("1989-12-31T23:59:59Z", "2026-11-29T00:00:00Z", "2099-05-05T08:00:00Z", "9999-12-31T23:59:59Z"),
        *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "some day in May", "2026", "2026-03-14", ""),
    ],
)
def test_times_that_no_recording_has_are_not_believed(text: str) -> None:
    """Zeros of clocks, the future and text: the reading stays, says why, and the next source is asked."""
    believed = start(creation_time=text)
    assert (believed.source, believed.is_guess) == (MODIFIED, True)
    assert believed.readings[0].text == f"creation_time={text}"
    assert believed.readings[0].start is None
    assert believed.readings[0].note


@pytest.mark.parametrize("text", ["Sat Mar 14 08:00:00 2026", "2026:03:14 08:00:00", "2026-03-14 08:00:00"])
def test_a_tag_without_a_zone_is_local(text: str) -> None:
    """AVI, FLV and EXIF write the camera's clock as it stands."""
    assert start(date=text).at == berlin(8)


def test_a_tomorrow_of_another_zone_is_believed() -> None:
    """A camera whose clock is some hours ahead is not from the future."""
    assert start(creation_time="2026-11-28T06:00:00Z").source == METADATA


@pytest.mark.parametrize("year_s", [0, -1, 315532800, 4070908800, 253402300800, 1e18, float("inf"), float("nan"), None])
def test_a_modification_time_may_be_impossible(year_s: float | None) -> None:
    """1970, 1980, 2099, 10000 and beyond: the start is unknown, not invented."""
    unknown = starts(file("a.mp4", 180, year_s))[0]
    assert (unknown.at, unknown.source) == (None, UNKNOWN)


def test_a_modification_time_is_a_guess_at_the_end() -> None:
    """The duration is taken off; a duration that is damage is not."""
    modified = start("a.mp4", 180)
    assert modified.at == datetime.fromtimestamp(LAST_WEEK_S - 180, UTC)
    assert (modified.source, modified.is_guess) == (MODIFIED, True)
    for duration_s in (None, 1e18, float("nan"), float("inf")):
        assert start("a.mp4", duration_s).at == datetime.fromtimestamp(LAST_WEEK_S, UTC)


def test_gopro_chapters_follow_each_other() -> None:
    """All state the first one's time: the second begins where the first ends, in whatever order they are named."""
    names = ("GX030123.MP4", "GX010123.MP4", "GX020123.MP4")
    third, first, second = starts(*(file(name, creation_time="2026-03-14T07:00:00Z") for name in names))
    assert [part.at for part in (first, second, third)] == [berlin(8), berlin(8, 3), berlin(8, 6)]
    assert [part.source for part in (first, second, third)] == [METADATA, CHAPTER, CHAPTER]
    assert not third.is_guess
    assert gopro_chapter("GOPR0123.MP4") == ("GP0123", 1)
    assert gopro_chapter("GP010123.MP4") == ("GP0123", 2)
    assert gopro_chapter("GPS_0123.MP4") is None


def test_two_gopros_that_count_alike_are_kept_apart() -> None:
    """Both have a recording 0123: each second chapter follows the first one that shares its time."""
    times = {"one": "2026-03-14T07:00:00Z", "other": "2026-03-14T11:00:00Z"}
    parts = starts(
        *(file(f"GX0{k}0123.MP4", creation_time=time) for time in times.values() for k in (1, 2)),
    )
    assert [part.at for part in parts] == [berlin(8), berlin(8, 3), berlin(12), berlin(12, 3)]


def test_a_chapter_without_the_first_one_is_a_guess() -> None:
    """Its time is of a chapter that is not here; one with a chapter missing before it begins too early at best."""
    (alone,) = starts(file("GX020123.MP4", creation_time="2026-03-14T07:00:00Z"))
    assert (alone.source, alone.is_guess) == (METADATA, True)
    assert "chapter 2" in alone.note
    _, third = starts(*(file(name, creation_time="2026-03-14T07:00:00Z") for name in ("GX010123.MP4", "GX030123.MP4")))
    assert (third.at, third.is_guess) == (berlin(8, 3), True)
    own = starts(
        file("GX010123.MP4", creation_time="2026-03-14T07:00:00Z"),
        file("GX020123.MP4", creation_time="2026-03-14T09:00:00Z"),
    )[1]
    assert (own.at, own.source) == (berlin(10), METADATA)


def test_the_users_word_is_of_the_first_file_alone() -> None:
    """The second has its own source or follows the first, as a guess; it is never "given by the user"."""
    given = berlin(8)
    first, stated, nameless = starts(
        file("a.mp4", creation_time="2026-03-14T03:00:00Z"),
        file("b.mp4", creation_time="2026-03-14T11:00:00Z"),
        file("c.mp4"),
        given=given,
    )
    assert (first.at, first.source, first.is_guess) == (given, GIVEN, False)
    assert (stated.at, stated.source) == (berlin(12), METADATA)
    assert (nameless.at, nameless.source, nameless.is_guess) == (berlin(12, 3), FOLLOWS, True)
    assert "b.mp4" in nameless.note


def test_the_users_word_is_of_the_first_file_though_it_is_unreadable() -> None:
    """What follows a file of no known length cannot be placed by it."""
    broken, good = starts(VideoFile("broken.mp4", None), file("good.mp4"), given=berlin(8))
    assert broken.source == GIVEN
    assert (good.source, good.is_guess) == (MODIFIED, True)


@pytest.mark.parametrize("year", [1, 1800, 2027, 9999])
def test_a_given_time_that_is_impossible_is_refused(year: int) -> None:
    """One sentence, before any work."""
    for zone in (None, UTC, timezone(timedelta(hours=14))):
        with pytest.raises(ImpossibleTime, match="cannot be when"):
            starts(file(), given=datetime(year, 1, 1, tzinfo=zone))


def test_the_user_may_know_of_an_old_film() -> None:
    """What no camera's clock is believed, the user's word is."""
    assert starts(file(), given=datetime(1962, 5, 1, 12))[0].source == GIVEN


def test_every_candidate_is_kept_with_its_reading() -> None:
    """What was not believed, too."""
    readings = starts(file("20260314_080000.mp4", creation_time="1904-01-01T00:00:00Z"), given=berlin(9))[0].readings
    assert [reading.source for reading in readings] == [GIVEN, METADATA, NAME]
    assert [reading.start is None for reading in readings] == [False, True, False]


def test_a_copy_of_a_file_says_the_same() -> None:
    """The modification time is a candidate only where the start is a guess: a copy has another one."""
    for name, sources in (("20260314_080000.mp4", [NAME]), ("a.mp4", [MODIFIED])):
        assert [reading.source for reading in start(name).readings] == sources


@pytest.mark.parametrize(
    ("name", "tags", "read"),
    [
        ("a.mp4", {"creation_time": "2026-03-14T07:00:00Z"}, "2026-03-14 08:00:00+01:00"),
        ("a.mkv", {"creation_time": "2026-03-14T07:00:00Z"}, "2026-03-14 08:00:00+01:00"),
        ("a.mkv", {"DATE_RECORDED": "2026-03-14 08:00:00"}, "2026-03-14 08:00:00+01:00"),
        ("a.avi", {"date": "2026:03:14 08:00:00"}, "2026-03-14 08:00:00+01:00"),
        ("a.mov", {"com.apple.quicktime.creationdate": "2026-03-14T08:00:00+0900"}, "2026-03-14 08:00:00+09:00"),
        ("a.mov", {"com.apple.quicktime.creationdate": "2026-03-14T08:00:00"}, "2026-03-14 08:00:00+01:00"),
        ("a.mp4", {"creation_time": "2026-03-14T07:00:02Z", "com.android.version": "16"}, "2026-03-14 08:00:00+01:00"),
    ],
)
def test_tags_of_real_files(name: str, tags: dict[str, str], read: str, tmp_path: Path) -> None:
    """Each format keeps its tags under names, in cases and in forms of its own."""
    clock = read_clock_tags(write_tagged(tmp_path / name, tags))
    assert clock.duration_s == pytest.approx(2.0, abs=0.1)
    (found,) = starts(VideoFile(name, None, clock, clock.duration_s))
    assert (str(found.at), found.source) == (read, METADATA)


def test_a_file_without_tags_and_no_file(tmp_path: Path) -> None:
    """There is nothing to read in the one, and the other is unreadable."""
    clock = read_clock_tags(write_tagged(tmp_path / "a.mkv", {}))
    assert (clock.times, clock.maker, clock.gps_start) == ({}, "", None)
    with pytest.raises(UnreadableVideo):
        read_clock_tags(tmp_path / "gone.mp4")


@pytest.mark.parametrize(
    "telemetry",
    [
        (gpsu("260314070000.500"),),
        (gpsu("150101000000.000", fix=0), gpsu("260314070001.500")),
        (b"DEVC", gps9(datetime(2026, 3, 14, 7, 0, 1, 500_000, tzinfo=UTC))),
    ],
)
def test_gps_tells_a_gopros_local_time_from_utc(telemetry: tuple[bytes, ...], tmp_path: Path) -> None:
    """The first lock says when the file begins; the metadata is off by the zone, and right otherwise."""
    tags = {"creation_time": "2026-03-14T08:00:00Z"}
    clock = read_clock_tags(write_tagged(tmp_path / "GX010123.MP4", tags, telemetry=telemetry))
    assert clock.maker == "GoPro"
    assert clock.gps_start == datetime(2026, 3, 14, 7, 0, 0, 500_000, tzinfo=UTC)
    (found,) = starts(VideoFile("GX010123.MP4", None, clock, 2.0))
    assert (found.at, found.source, found.is_guess) == (berlin(8), METADATA, False)
    assert "GPS tells the difference" in found.note
    assert [reading.source for reading in found.readings] == [METADATA, GPS]


@pytest.mark.parametrize(
    "payload",
    [gpsu("260314070000.000", fix=0), gpsu("no time at all.."), b"GPS9?\x20\x00\x01", b"", b"GPSUU\x10\x00\x01"],
)
def test_gps_without_a_lock_says_nothing(payload: bytes, tmp_path: Path) -> None:
    """Before its first lock a receiver writes any time; damaged telemetry is none."""
    path = write_tagged(tmp_path / "a.mp4", {}, telemetry=(payload,))
    assert read_clock_tags(path).gps_start is None


def test_gps_and_the_metadata(tmp_path: Path) -> None:
    """They agree, differ by the offset of another place, or do not go together: then GPS is believed."""
    at_seven = datetime(2026, 3, 14, 7, 0, 1, tzinfo=UTC)

    def by_gps(stated: str, name: str = "GX010123.MP4") -> RecordingStart:
        tags = ClockTags({"creation_time": stated}, "GoPro", 180.0, at_seven)
        return starts(VideoFile(name, None, tags, 180.0))[0]

    agreeing = by_gps("2026-03-14T07:00:00Z")
    assert (agreeing.at, agreeing.source, agreeing.note) == (berlin(8), METADATA, "")
    assert str(by_gps("2026-03-14T12:45:00Z").at) == "2026-03-14 12:45:00+05:45"
    wrong = by_gps("2016-01-02T00:11:00Z")
    assert (wrong.at, wrong.source) == (berlin(8, 0, 1), GPS)
    assert "2016-01-02" in wrong.note
    later_chapter = by_gps("2026-03-14T07:45:00Z", "GX030123.MP4")  # no offset: the first chapter's time
    assert (later_chapter.at, later_chapter.source) == (berlin(8, 0, 1), GPS)
