"""Which kinds of file are read as videos, and what a file that is none holds instead. Decodes nothing."""

from __future__ import annotations

import contextlib
import io
import string
from pathlib import Path

import av
from av.error import FFmpegError

# Kinds of file that hold their pictures themselves. Others play what other files hold, as playlists do.
VIDEO_FORMATS = (
    *("mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "live_flv", "asf", "asf_o", "wtv", "ty", "rm"),
    *("ogg", "nut", "mxf", "gxf", "lxf", "dv", "dhav", "nsv", "nuv", "pva", "gif", "apng", "mjpeg", "mpjpeg"),
    *("h261", "h263", "h264", "hevc", "vvc", "evc", "m4v", "vc1", "vc1test", "cavsvideo", "dirac", "av1", "obu"),
    *("ivf", "yuv4mpegpipe"),
)
PHOTO_BRANDS = {
    *("heic", "heix", "heim", "heis", "mif1", "mif2", "mif3", "miaf", "avif", "avci", "jpeg", "j2ki", "vvic"),
    *("1pic", "crx"),
}
"""What the head of an MP4 names where it is made for a photo; an image sequence has another brand."""

_PHOTO_FORMATS = [name for name in sorted(av.formats_available) if name.endswith("_pipe")] + ["ico", "jpegxl_anim"]
_HEAD_BYTES = 2**20  # a photo's format stands in its first few
_PLAYLIST_HEADS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"v=0", b"[playlist]", b"RTSP")


def photo_format(path: Path) -> str | None:
    """The format of a photo, by its content; None if the file is none."""
    options = {"format_whitelist": ",".join(_PHOTO_FORMATS)}
    with path.open("rb") as file:
        head = io.BytesIO(file.read(_HEAD_BYTES))  # without its name, by which a format would look for other files
    with contextlib.suppress(FFmpegError, OSError), av.open(head, options=options) as container:
        return container.format.name.removesuffix("_pipe")
    return None


def content(path: Path) -> str:
    """What the file holds, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(512)
    if head[4:8] == b"ftyp":
        return "an MP4 whose index is missing or damaged, as in a recording that was cut off"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "a Matroska or WebM file without a picture"
    if head.lstrip().startswith(_PLAYLIST_HEADS):
        return "a playlist or other text, which holds no picture itself"
    if all(byte >= 0x80 or chr(byte) in string.printable for byte in head):
        return "text"
    return f"{path.stat().st_size} bytes of no known format"
