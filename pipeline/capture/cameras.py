"""Cameras: those of this machine by name, and those of the network by the address that the user gives."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_SYSFS = Path("/sys/class/video4linux")
_DEVICE_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
_DEVICE_OPTIONS = {"avfoundation": {"framerate": "30"}}  # its default, 29.97, is refused by most cameras
_LAVFI = "lavfi:"
# Without `file`, so that nothing that an address leads to can name a file of this machine.
_HTTP = {"protocol_whitelist": "http,https,httpproxy,tcp,tls,crypto"}
_RTSP = {"protocol_whitelist": "rtp,srtp,udp,tcp,tls,crypto,http,https,httpproxy", "rtsp_transport": "tcp"}
_RTMP = {"protocol_whitelist": "rtmp,rtmps,tcp,tls"}
_ADDRESSES = {
    "rtsp": _RTSP,
    "rtsps": _RTSP,
    "http": _HTTP,
    "https": _HTTP,
    "rtmp": _RTMP,
    "rtmps": _RTMP,
    "tcp": {"protocol_whitelist": "tcp"},
    "udp": {"protocol_whitelist": "udp"},
}


class NoCamera(Exception):
    """No camera is what the user named."""


@dataclass(frozen=True)
class Camera:
    """What FFmpeg opens: `url` in `format`, by content where it is None; `name` is for people, without a password."""

    name: str
    url: str = field(repr=False)
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


def find_camera(named: str | None) -> Camera:
    """The camera that is named by name, number, device or address; without a name, the first one. Raises `NoCamera`.

    Opens nothing. `lavfi:GRAPH` is a picture that FFmpeg makes, for tries and tests.
    """
    if named is not None and named.startswith(_LAVFI):
        return Camera(named, named.removeprefix(_LAVFI), "lavfi")
    if named is not None and "://" in named:
        return _at_address(named)
    if named is not None and named.startswith("/dev/"):
        return Camera(named, named, "v4l2")
    cameras = list_cameras()
    listed = ", ".join(camera.name for camera in cameras) or "none"
    if named is None:
        if not cameras:
            raise NoCamera("no camera is connected: connect one, or give its address with --camera rtsp://…")
        return cameras[0]
    for number, camera in enumerate(cameras):
        if named in (camera.url, str(number)) or named.casefold() == camera.name.casefold():
            return camera
    raise NoCamera(f"no camera {named!r} is connected (found: {listed}): name one of those, or an address, rtsp://…")


def _at_address(address: str) -> Camera:
    scheme = address.partition("://")[0].lower()
    if scheme not in _ADDRESSES:
        raise NoCamera(f"{scheme}:// is no address of a camera: wanted one of {', '.join(_ADDRESSES)}")
    return Camera(re.sub(r"(?<=://)[^/?#]*@", "…@", address), address, options=_ADDRESSES[scheme])


def list_cameras() -> list[Camera]:
    """The cameras of this machine, as its system names them. Raises `NoCamera` where they cannot be told."""
    kind = _DEVICE_FORMATS.get(sys.platform)
    if kind is None:
        raise NoCamera(f"cameras of {sys.platform} cannot be told: give an address with --camera rtsp://…")
    return v4l2_cameras(_SYSFS) if kind == "v4l2" else _enumerated(kind)


def v4l2_cameras(sysfs: Path) -> list[Camera]:
    """Linux's cameras, by the number of their devices; nodes that carry a camera's metadata are left out."""
    folders = sorted(sysfs.glob("video*"), key=lambda folder: int(re.sub(r"\D", "", folder.name) or 0))
    return [
        Camera(_read(folder / "name") or folder.name, f"/dev/{folder.name}", "v4l2")
        for folder in folders
        if _read(folder / "index") in ("0", "")
    ]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _enumerated(kind: str) -> list[Camera]:
    """The devices that FFmpeg finds on macOS and Windows."""
    import av.device

    try:
        devices = av.device.enumerate_input_devices(kind)
    except (OSError, ValueError) as error:
        raise NoCamera(f"this machine's cameras cannot be listed ({error}): name one with --camera") from error
    cameras = []
    for device in devices:
        if device.media_types and "video" not in device.media_types:
            continue
        url = f"video={device.name}" if kind == "dshow" else device.name
        cameras.append(Camera(device.description or device.name, url, kind, _DEVICE_OPTIONS.get(kind, {})))
    return cameras
