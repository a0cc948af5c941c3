"""The diary as files: one module for each format."""

from __future__ import annotations

from collections.abc import Mapping

FORMATS: Mapping[str, str] = {
    "jsonl": "events.jsonl",
    "csv": "events.csv",
    "vtt": "events.vtt",
    "srt": "events.srt",
    "ics": "events.ics",
    "activitywatch": "events.activitywatch.json",
    "labelstudio": "events.labelstudio.json",
    "boris": "events.boris",
}
"""The file of each format that has one for each recording."""
