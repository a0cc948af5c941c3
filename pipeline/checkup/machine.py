"""The machine: Python, torch, its device and precision, decoder, memory and disk."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import psutil

from features.decode.grid import Decoder, decoder_provenance
from pipeline.checkup.findings import Finding, gib

_PYTHONS = ((3, 11), (3, 14))
"""The first and the last Python that is tested."""


def python() -> Iterator[Finding]:
    """The version of Python, which pip requires to be new enough."""
    first, last = (".".join(map(str, version)) for version in _PYTHONS)
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if _PYTHONS[0] <= sys.version_info[:2] <= _PYTHONS[1]:
        yield Finding("Python", "ok", found)
    else:
        yield Finding(
            "Python", "warning", found, f"tested are {first} to {last}: where something fails, use one of them"
        )


def device(precision: str, attention: str) -> Iterator[Finding]:
    """torch, what it computes on, and in which precision: that of the params, or what they leave to the device."""
    import torch

    from features.backbone import best_device, choose_precision

    place = best_device()
    chosen = choose_precision(precision, place)
    threads = f"{torch.get_num_threads()} threads on {os.cpu_count()} cores"
    name = {"cuda": lambda: f"CUDA, {torch.cuda.get_device_name(place)}", "cpu": lambda: f"CPU, {threads}"}
    asked = "extract.precision is auto" if precision == "auto" else "as extract.precision says"
    yield Finding("torch", "ok", f"{torch.__version__}; device: {name.get(place.type, lambda: place.type)()}")
    if place.type == "cpu":
        if shutil.which("nvidia-smi"):
            yield Finding(
                "device",
                "warning",
                "there is an NVIDIA GPU that this torch does not use",
                "install the build of torch for your CUDA: https://pytorch.org/get-started/locally",
            )
        if chosen == "fp16":
            yield Finding("precision", "warning", "fp16 on a CPU is slow", "set extract.precision to auto")
            return
    yield Finding("precision", "ok", f"{chosen}, {asked}; attention: {attention}")


def decoder(name: Decoder) -> Iterator[Finding]:
    """The decoder of the params, with the versions of its libraries."""
    try:
        libraries = decoder_provenance(name)
    except metadata.PackageNotFoundError as error:
        yield Finding(
            "decoder",
            "failed",
            f"extract.decoder is {name}, and {error.name} is not installed",
            "set extract.decoder to pyav, or install decord2",
        )
        return
    versions = ", ".join(f"{key} {value}" for key, value in libraries.items() if key not in ("name", "version"))
    yield Finding("decoder", "ok", f"{name}: {versions}")


def memory(needed_bytes: float, why: str) -> Iterator[Finding]:
    """Memory that is free now, beside what is needed for `why`."""
    held = psutil.virtual_memory()
    found = f"{gib(held.available)} of {gib(held.total)} are free; about {gib(needed_bytes)} are needed for {why}"
    if held.total < needed_bytes:
        yield Finding("memory", "failed", found, "use a machine with more, or a smaller backbone")
    elif held.available < needed_bytes:
        yield Finding("memory", "warning", found, "close other programs before `dvc repro`")
    else:
        yield Finding("memory", "ok", found)


def disk(folders: Sequence[tuple[str, Path, float]]) -> Iterator[Finding]:
    """Room for each of the folders, (its name, path, bytes that are still to come); those of one disk add up."""
    needed: dict[int, float] = {}
    for name, folder, num_bytes in folders:
        place = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
        disk_number = place.stat().st_dev
        needed[disk_number] = needed.get(disk_number, 0.0) + num_bytes
        free = shutil.disk_usage(place).free
        found = f"{gib(free)} are free for {name}, {folder}; about {gib(needed[disk_number])} are needed there"
        if free < needed[disk_number]:
            yield Finding("disk", "failed", found, f"make room, or move it: {_MOVED[name]}")
        elif not os.access(place, os.W_OK):
            yield Finding("disk", "failed", f"{place} cannot be written to", f"allow it, or move it: {_MOVED[name]}")
        else:
            yield Finding("disk", "ok", found)


_MOVED = {
    "the cache": "the environment's VIDEO_DIARY_CACHE names another folder",
    "the project": "clone the project to another disk",
}
