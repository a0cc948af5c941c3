"""Stage `extract`: frozen embeddings of every window of every video, and a row for each video that failed.

Videos are computed once, in a cache; the outputs are put together from there. Where stage 2 trains from tokens, what
enters the last block is kept, too, for as many windows as there is to be room for.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping
from pathlib import Path

from features.backbone import DTYPES, Backbone, BackboneError, best_device, choose_precision
from features.cache import EmbeddingCache
from features.clips import Reading, Source
from features.decode.grid import UnreadableVideo
from features.extraction import TokenChoice, extract, recipe
from features.preprocess import Preprocessing, PreprocessingError
from features.store import block_inputs as tokens
from features.store import embeddings as store
from pipeline import params
from pipeline.dataset import manifest
from pipeline.dataset.windows import windows_to_keep
from pipeline.stage import params_option, path_option, stage

log = logging.getLogger(__name__)


class TooManyFailed(Exception):  # noqa: N818, named as what it is
    """More videos failed than `max_failed_share` allows."""


@stage(params.ParamsError, manifest.ManifestError, BackboneError, PreprocessingError, store.StoreError, TooManyFailed)
@path_option("--dataset", "Folder of the videos.")
@path_option("--manifest", "Folder of the manifest.", "manifest_dir")
@path_option("--backbone", "Folder of the backbone.", "backbone_dir")
@path_option("--cache", "Folder of the cache, which all profiles share.", "cache_dir")
@path_option("--out", "Zarr group of embeddings, to be written.")
@path_option("--tokens", "Zarr group of tokens, to be written.", "tokens_out")
@path_option("--failed", "CSV of failed videos, to be written.")
@params_option
def main(
    dataset: Path, manifest_dir: Path, backbone_dir: Path, cache_dir: Path, out: Path, tokens_out: Path, failed: Path,
    params_file: Path,
) -> None:  # fmt: skip
    """Embed all videos with the frozen backbone."""
    chosen = params.load(params_file).active
    videos = manifest.read(manifest_dir)
    device = best_device()
    dtype = DTYPES[choose_precision(chosen.extract.precision, device)]
    backbone = Backbone.load(backbone_dir, dtype=dtype, attention=chosen.extract.attention).to(device)
    preprocessing = Preprocessing.from_checkpoint(backbone_dir)
    reading = Reading(chosen.windows.plan, preprocessing, chosen.extract.decoder)
    made_by = recipe(backbone, reading)
    cache = EmbeddingCache(cache_dir, made_by)
    choice = TokenChoice({}, chosen.finetune.tokens_precision)
    if chosen.finetune.source == "tokens":
        num_tokens, size = backbone.tokens_shape(chosen.windows.num_frames)
        clip_bytes = num_tokens * size * DTYPES[choice.precision].itemsize
        choice = TokenChoice(
            windows_to_keep(
                videos, chosen.windows.plan,
                num_clips=int(chosen.finetune.tokens_gb * 1e9 / clip_bytes),
                evaluate_windows=chosen.finetune.evaluate_windows,
            ),
            choice.precision,
        )  # fmt: skip
    with cache.locked():
        found = extract(
            backbone,
            [Source(each.video_id, dataset / each.path) for each in sorted(videos.videos, key=lambda v: v.video_id)],
            reading,
            cache=cache,
            choice=choice,
            batch_size=chosen.extract.batch_size,
            num_workers=chosen.extract.num_workers,
            device=device,
        )
        _write_failures(failed, found.failures)
        log.info(
            "embedded %d videos, %d were in the cache; failed %d, see %s",
            found.num_embedded, found.num_reused, len(found.failures), failed,
        )  # fmt: skip
        share = len(found.failures) / len(videos.videos)
        if share > chosen.extract.max_failed_share:
            told = "; ".join(str(each) for _, each in sorted(found.failures.items())[:10])
            raise TooManyFailed(
                f"{len(found.failures)} of {len(videos.videos)} videos failed, more than max_failed_share = "
                f"{chosen.extract.max_failed_share:g} allows: {told}; all are in {failed}"
            )
        attributes = made_by | {"backbone": {"id": backbone.id, "sha256": backbone.weights_sha256}}
        store.write(out, found.num_windows, lambda video_id: cache.load(found.sha256s[video_id]), attributes=attributes)
        tokens.write(
            tokens_out,
            found.token_windows,
            lambda video_id: cache.load_tokens(
                found.sha256s[video_id], choice.precision, found.token_windows[video_id]
            ),
            precision=choice.precision,
            attributes=attributes,
        )
        num_deleted = cache.shrink(chosen.extract.max_cache_gb * 1e9)
    log.info("%d windows; %d files left the cache, by its quota", sum(found.num_windows.values()), num_deleted)
    if choice.windows:
        for split in manifest.SPLITS:
            ids = [video.video_id for video in videos.split(split)]
            num_kept, num_all = (
                sum(count.get(video_id, 0) for video_id in ids)
                for count in ({each: len(kept) for each, kept in found.token_windows.items()}, found.num_windows)
            )
            log.info("%s: tokens of %d of %d windows are kept", split, num_kept, num_all)


def _write_failures(path: Path, failures: Mapping[str, UnreadableVideo]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["video_id", "reason", "found"])
        writer.writerows([video_id, each.reason, each.found] for video_id, each in sorted(failures.items()))


if __name__ == "__main__":
    main()
