"""All checks, in the order in which somebody would put things right."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.checkup import machine, project, timing
from pipeline.checkup.findings import Finding, checked
from pipeline.checkup.project import Sizes
from pipeline.layout import Layout, models_of
from pipeline.params import Params, load_project


def look(params: Params, paths: Layout, *, is_timed: bool) -> Iterator[Finding]:
    """What each check finds, as soon as it is made."""
    extract = params.extract
    yield from checked("Python", machine.python)
    yield from checked("torch", lambda: machine.device(extract.precision, extract.attention))
    yield from checked("decoder", lambda: machine.decoder(extract.decoder))
    if load_project(paths.root).profile == paths.profile:  # DVC runs no other's stages
        yield from checked("DVC", lambda: project.dvc_state(paths))
    of_data = checked("data set", lambda: project.data_set(params, paths))
    yield from of_data
    of_checkpoint = checked("checkpoint", lambda: project.checkpoint(params, paths))
    yield from of_checkpoint
    if any(finding.state == "failed" for finding in [*of_data, *of_checkpoint]):
        return
    sizes = project.sizes(params, paths)
    if sizes is not None:
        yield from checked(
            "memory", lambda: machine.memory(sizes.memory_bytes, "the backbone and the training of heads")
        )
        needed = float(sizes.disk_bytes)
        if params.finetune.source == "block_inputs":
            needed += sizes.block_inputs_bytes(params.finetune.block_inputs_gb * 1e9)
        if paths.embeddings.is_dir():
            needed = 0.0
        folders = [("the cache", paths.cache, needed), ("the project", paths.root, needed)]
        yield from checked("disk", lambda: machine.disk(folders))
    if is_timed:
        yield from checked("time", lambda: _timed(params, paths, sizes))


def _timed(params: Params, paths: Layout, sizes: Sizes | None) -> Iterator[Finding]:
    """Rates of this machine, and what they come to."""
    folder = project.backbone_folder(params, paths)
    if folder is None:
        yield Finding("time", "warning", "not estimated: the backbone is not here yet", "`dvc repro fetch`, then again")
        return
    videos = project.videos_here(params, paths)
    rates, findings = timing.time_backbone(params, folder, videos)
    yield from findings
    is_seen_again = "finetune_temporal" in models_of(params.temporal.embeddings)
    num_windows = {} if sizes is None else sizes.num_windows
    for line in timing.estimates(params, rates, num_windows, temporal_on_finetuned=is_seen_again):
        yield Finding("time, estimated", "ok", line)
