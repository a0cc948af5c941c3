"""Stage `extract_recordings`: frozen embeddings of every window of every recording, a row for each failure.

What is kept of them lies in this account's folder alone, whatever `extract.cache` names.
"""

from __future__ import annotations

import logging

from features.clips import Source
from features.extraction import BlockInputSelection, extract
from features.files import private_files, write_csv
from features.store.embeddings import write_embeddings
from pipeline.dataset.recordings import recording_paths
from pipeline.frozen import load_frozen_encoder
from pipeline.layout import Layout
from pipeline.params import Params
from pipeline.stage import stage

log = logging.getLogger(__name__)


@stage
def main(params: Params, paths: Layout) -> None:
    """Embed the recordings; none give an empty store."""
    encoder = load_frozen_encoder(
        paths.backbone,
        paths.cache,
        params.windows,
        decoder=params.extract.decoder,
        precision=params.extract.precision,
        attention=params.extract.attention,
        gate=params.recordings.gate,
        views=params.extract.views,
    )
    with private_files(), encoder.cache.locked():  # what is kept of a person's day is theirs alone
        extraction = extract(
            encoder.backbone,
            [Source(recording_id, path) for recording_id, path in recording_paths(paths.recordings).items()],
            encoder.reader,
            cache=encoder.cache,
            selection=BlockInputSelection({}, params.extract.precision),
            batch_size=params.extract.batch_size,
            num_workers=params.extract.num_workers,
            device=encoder.device,
            thumbnails=True,
        )
        write_embeddings(
            paths.recording_embeddings,
            extraction.num_windows,
            lambda recording_id: encoder.cache.load(extraction.sha256s[recording_id]),
            provenance=encoder.store_provenance,
            sizes=dict.fromkeys(encoder.backbone.poolings, encoder.backbone.hidden_size),
        )
        write_csv(
            paths.recording_hashes,
            ["recording", "sha256"],
            [(recording_id, extraction.sha256s[recording_id]) for recording_id in sorted(extraction.num_windows)],
        )
        failures = sorted(extraction.failures.items())
        write_csv(
            paths.failed_recordings,
            ["recording", "reason", "found"],
            [(recording_id, failure.reason, failure.found) for recording_id, failure in failures],
        )
    num_evicted = encoder.cache.shrink(params.extract.max_cache_gb * 1e9)
    for _, failure in failures:
        log.warning("%s", failure)
    log.info(
        "embedded %d recordings, %d were in the cache; failed %d, see %s; %d files evicted from the cache",
        *(extraction.num_embedded, extraction.num_reused, len(failures), paths.failed_recordings, num_evicted),
    )


if __name__ == "__main__":
    main()
