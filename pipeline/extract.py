"""Stage `extract`: frozen embeddings of every window of every video, and a row for each video that failed."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

from features import store
from features.clips import Reading, Source
from features.encoder import DTYPES, Backbone, BackboneError, best_device
from features.extraction import extract
from features.preprocess import Preprocessing, PreprocessingError
from pipeline import manifest, params
from pipeline.stage import params_option, path_option, stage

log = logging.getLogger(__name__)


class TooManyFailed(Exception):  # noqa: N818, named as what it is
    """More videos failed than `max_failed_share` allows."""


@stage(params.ParamsError, manifest.ManifestError, BackboneError, PreprocessingError, store.StoreError, TooManyFailed)
@path_option("--dataset", "Folder of the videos.")
@path_option("--manifest", "Folder of the manifest.", "manifest_dir")
@path_option("--backbone", "Folder of the backbone.", "backbone_dir")
@path_option("--out", "Zarr group of embeddings, to be written.")
@path_option("--failed", "CSV of failed videos, to be written.")
@params_option
def main(dataset: Path, manifest_dir: Path, backbone_dir: Path, out: Path, failed: Path, params_file: Path) -> None:
    """Embed all videos with the frozen backbone."""
    chosen = params.load(params_file).active
    videos = manifest.read(manifest_dir).videos
    device = best_device()
    backbone = Backbone.load(backbone_dir, dtype=DTYPES[chosen.extract.precision]).to(device)
    preprocessing = Preprocessing.from_checkpoint(backbone_dir)
    found = extract(
        backbone,
        [Source(video.video_id, dataset / video.path) for video in sorted(videos, key=lambda video: video.video_id)],
        Reading(chosen.windows.plan, preprocessing, chosen.extract.decoder),
        batch_size=chosen.extract.batch_size,
        num_workers=chosen.extract.num_workers,
        device=device,
    )
    with failed.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["video_id", "reason", "found"])
        writer.writerows([video_id, each.reason, each.found] for video_id, each in sorted(found.failures.items()))
    share = len(found.failures) / len(videos)
    if share > chosen.extract.max_failed_share:
        raise TooManyFailed(
            f"{len(found.failures)} of {len(videos)} videos failed, more than max_failed_share = "
            f"{chosen.extract.max_failed_share:g} allows: "
            + "; ".join(str(each) for _, each in sorted(found.failures.items())[:10])
        )
    num_windows = store.write(
        out,
        found.rows,
        attributes={
            "backbone": {"id": backbone.id, "sha256": backbone.weights_sha256},
            "windows": chosen.windows.model_dump(),
            "preprocessing": preprocessing.to_dict(),
            "precision": chosen.extract.precision,
        },
    )
    log.info(
        "embedded %d windows of %d videos, %d windows padded; failed %d, see %s",
        num_windows, len(videos) - len(found.failures), sum(row.num_padded > 0 for row in found.rows),
        len(found.failures), failed,
    )  # fmt: skip


if __name__ == "__main__":
    main()
