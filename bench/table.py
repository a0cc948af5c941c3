"""Rows as JSON, one file per topic, and all of them as the table of docs/benchmarks.md. Measures nothing."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bench import Row

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"


def write(folder: Path, topic: str, rows: Sequence[Row]) -> None:
    """Write a topic's rows and the machine they were measured on to `folder`/`topic`.json; numbers to four digits."""
    content = {"machine": machine(), "rows": [_rounded(asdict(row)) for row in rows]}
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"
    (folder / f"{topic}.json").write_text(text, encoding="utf-8")


def machine() -> dict[str, Any]:
    """The kind of machine; nothing that identifies this one."""
    cpu_info = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (cpu_info.read_text(encoding="utf-8").splitlines() if cpu_info.is_file() else [])
        if line.startswith("model name")
    ]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "no accelerator",
        "torch": torch.__version__,
    }


def table(folder: Path, topics: Sequence[str]) -> str:
    """The rows of all measured topics as Markdown tables, one below each machine that they were measured on."""
    lines: dict[str, list[str]] = {}
    for topic in topics:
        path = folder / f"{topic}.json"
        if not path.is_file():
            continue
        content = json.loads(path.read_text(encoding="utf-8"))
        measured_on = "{cpu}, {cores} cores, {device}, torch {torch}".format_map(content["machine"])
        lines.setdefault(measured_on, []).extend(_line(Row(**row)) for row in content["rows"])
    head = ["| what | ratio | measured | goal | |", "|---|---|--:|--:|---|"]
    return "\n\n".join("\n".join([f"{machine}:", "", *head, *rows]) for machine, rows in lines.items())


def put_into(page: str, table: str) -> str:
    """The text with `table` between its two markers. Raises `ValueError` without markers."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no place for the table, between {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def _line(row: Row) -> str:
    sign = "≥" if row.better == "higher" else "≤"
    goal = "" if row.goal is None else f"{sign} {row.goal:g}"
    measured = "not measured" if row.measured is None else f"{row.measured:.3g}"
    notes = [text for text in ("missed" if row.met is False else "", row.note) if text]
    return f"| {row.name} | {row.ratio} | {measured} | {goal} | {'; '.join(notes)} |"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    return value
