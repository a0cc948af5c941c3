"""The GPS clock in a GoPro's telemetry track (GPMF): in UTC, where the camera's own clock is not.

Keys and layouts are those of GoPro's gpmf-parser: `GPSF` and `GPSU` up to the HERO10, `GPS9` from the HERO11 on.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from itertools import islice

from av.container import InputContainer

_MAX_PAYLOADS = 10  # about one a second; what lies between them is read, too
_FIX = b"GPSFL\x04\x00\x01"  # a 32-bit number: 0 without a lock, else 2 or 3 dimensions
_TIME = b"GPSUU\x10\x00\x01"  # 16 characters, as in "260314070000.000"
_SAMPLES = b"GPS9?\x20"  # of 32 bytes each, behind a 16-bit count


def gps_start(container: InputContainer) -> datetime | None:
    """When the file begins, by the first GPS lock of its first seconds; None without one."""
    tracks = [stream for stream in container.streams if stream.metadata.get("handler_name", "").strip() == "GoPro MET"]
    if not tracks:
        return None
    for packet in islice(container.demux(tracks[0]), _MAX_PAYLOADS):
        moment = _locked_time(bytes(packet))
        if moment is not None:
            at_s = 0.0 if packet.pts is None or packet.time_base is None else float(packet.pts * packet.time_base)
            return moment - timedelta(seconds=at_s)
    return None


def _locked_time(payload: bytes) -> datetime | None:
    """The time of a payload's first fix, in UTC; None without a lock, or where it is no time."""
    try:
        if (at := payload.find(_SAMPLES)) >= 0:
            days, ms, _, dimensions = struct.unpack_from(">iiHH", payload, at + len(_SAMPLES) + 2 + 20)
            moment = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(days=days, milliseconds=ms)
            return moment if dimensions >= 2 else None
        fix, time = payload.find(_FIX), payload.find(_TIME)
        if min(fix, time) < 0 or struct.unpack_from(">I", payload, fix + len(_FIX))[0] < 2:
            return None
        text = payload[time + len(_TIME) :][:16].decode("ascii")
        return datetime.strptime(text, "%y%m%d%H%M%S.%f").replace(tzinfo=UTC)
    except (struct.error, ValueError, OverflowError):
        return None
