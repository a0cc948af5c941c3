"""Stage `extract`: frozen embeddings of every window of every video, block inputs of some, a row for each failure.

Each video is computed once, into the cache; the outputs are assembled from there. With `--share I/N` only the cache is
filled, by one of N processes; with `extract.engine: ray` the workers of a cluster fill it first.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import click

from features.backbone import DTYPES, Backbone
from features.clips import Source
from features.extraction import BlockInputSelection, Extraction, by_hash
from features.files import write_csv
from features.ray_engine import extract_on_ray
from features.sharing import Share, extract_share
from features.store.block_inputs import write_block_inputs
from features.store.embeddings import write_embeddings
from pipeline.dataset import manifest
from pipeline.dataset.manifest import Manifest
from pipeline.dataset.windows import block_input_windows
from pipeline.frozen import Extractor, ExtractorLoader
from pipeline.layout import Layout
from pipeline.params import Params
from pipeline.stage import stage

log = logging.getLogger(__name__)


class TooManyFailed(Exception):
    """More videos failed than `max_failed_share` allows."""


@click.option("--share", "share_text", metavar="I/N", help="Fill the cache with part I of N, and write nothing else.")
@click.option("--retry-failed", is_flag=True, help="Try videos again that are known to fail.")
@stage
def main(params: Params, paths: Layout, *, share_text: str | None, retry_failed: bool) -> None:
    """Embed all videos with the frozen backbone."""
    share = Share.parse(share_text) if share_text else None
    videos = manifest.read(paths.manifest)
    load = ExtractorLoader(
        paths.backbone.absolute(),
        paths.cache,
        params.extract.cache,
        params.windows,
        decoder=params.extract.decoder,
        precision=params.extract.precision,
        attention=params.extract.attention,
        views=params.extract.views,
        batch_size=params.extract.batch_size,
        num_workers=params.extract.num_workers,
        max_cache_gb=params.extract.max_cache_gb,
    )
    extractor = load()
    encoder, cache = extractor.encoder, extractor.encoder.cache
    encoder.warn_of_poolings()
    sources = [Source(video_id, paths.dataset / video.path) for video_id, video in sorted(videos.by_id.items())]
    selection = _selection(params, videos, encoder.backbone)
    with cache.locked():
        if retry_failed:
            cache.forget_failures(cache.failures(list(by_hash(sources, cache, selection)[0])))
        if share is not None:
            done = extract_share(share, sources, cache=cache, selection=selection, extract=extractor.extract)
        else:
            if params.extract.engine == "ray":
                extract_on_ray(
                    replace(load, cache=None) if params.extract.cache else load,
                    sources,
                    cache=cache,
                    selection=selection,
                    cores_a_worker=params.extract.num_workers + 1,
                    address=params.extract.ray_address,
                )
            extraction = extractor.extract(sources, selection)
            _write(params, paths, extractor, selection, extraction, num_videos=len(videos.videos))
    num_evicted = extractor.shrink()
    if share is not None:
        log.info(
            "share %d of %d: embedded %d videos, others %d; failed %d",
            *(share.number, share.count, done.num_embedded, done.num_others, done.num_failed),
        )
        return
    log.info("%d windows; %d files evicted from the cache", sum(extraction.num_windows.values()), num_evicted)
    if selection.windows:
        _log_block_inputs(videos, extraction.num_windows, extraction.block_input_windows)


def _write(
    params: Params,
    paths: Layout,
    extractor: Extractor,
    selection: BlockInputSelection,
    extraction: Extraction,
    *,
    num_videos: int,
) -> None:
    """Assemble the outputs from the cache."""
    encoder, cache = extractor.encoder, extractor.encoder.cache
    failures = sorted(extraction.failures.items())
    rows = [(video_id, failure.reason, failure.found) for video_id, failure in failures]
    write_csv(paths.failed, ["video_id", "reason", "found"], rows)
    log.info(
        "embedded %d videos, %d were in the cache; failed %d, see %s",
        *(extraction.num_embedded, extraction.num_reused, len(failures), paths.failed),
    )
    if extraction.num_known:
        log.info("%d failed before and were not tried again; --retry-failed does", extraction.num_known)
    if len(failures) > params.extract.max_failed_share * num_videos:
        listed = "; ".join(str(failure) for _, failure in failures[:10])
        raise TooManyFailed(
            f"{len(failures)} of {num_videos} videos failed, more than max_failed_share = "
            f"{params.extract.max_failed_share:g} allows: {listed}; all are in {paths.failed}"
        )
    sha256s, stored_windows = extraction.sha256s, extraction.block_input_windows
    write_embeddings(
        paths.embeddings,
        extraction.num_windows,
        lambda video_id: cache.load(sha256s[video_id]),
        provenance=encoder.store_provenance,
    )
    write_block_inputs(
        paths.block_inputs,
        stored_windows,
        lambda video_id: cache.load_block_inputs(sha256s[video_id], selection.precision, stored_windows[video_id]),
        precision=selection.precision,
        provenance=encoder.store_provenance,
    )


def _selection(params: Params, videos: Manifest, backbone: Backbone) -> BlockInputSelection:
    """The windows whose block inputs stage 2 wants stored: as many as the params have room for, or none."""
    precision = params.finetune.block_inputs_precision
    if params.finetune.source != "block_inputs":
        return BlockInputSelection({}, precision)
    num_tokens, hidden_size = backbone.block_input_shape(params.windows.num_frames)
    clip_bytes = num_tokens * hidden_size * DTYPES[precision].itemsize
    windows = block_input_windows(
        videos,
        params.windows,
        num_clips=int(params.finetune.block_inputs_gb * 1e9 / clip_bytes),
        evaluate_windows=params.finetune.evaluate_windows,
    )
    return BlockInputSelection(windows, precision)


def _log_block_inputs(
    videos: Manifest, num_windows: Mapping[str, int], stored_windows: Mapping[str, tuple[int, ...]]
) -> None:
    for split in manifest.SPLITS:
        video_ids = [video.video_id for video in videos.split(split)]
        num_stored = sum(len(stored_windows.get(video_id, ())) for video_id in video_ids)
        num_all = sum(num_windows.get(video_id, 0) for video_id in video_ids)
        log.info("%s: block inputs of %d of %d windows are stored", split, num_stored, num_all)


if __name__ == "__main__":
    main()
