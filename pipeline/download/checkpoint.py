"""A checkpoint from the Hugging Face hub: weights and JSON of one commit, no code."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.download.resumable import DownloadError
from pipeline.fetch_params import HubModel

_FILES = ["*.safetensors", "*.json"]


def download_checkpoint(model: HubModel) -> Path:
    """The folder of the hub's own cache (`HF_HOME`) that holds the commit's weights and configuration.

    With `HF_HUB_OFFLINE=1` nothing but that cache is looked into. Raises `DownloadError`.
    """
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # read when the library is imported
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    address = f"hf://{model.repository}@{model.revision}"
    try:
        folder = Path(snapshot_download(model.repository, revision=model.revision, allow_patterns=_FILES))
    except LocalEntryNotFoundError as error:
        raise DownloadError(
            f"{address} is not in the hub's cache on this machine, and the hub cannot be reached, or "
            "HF_HUB_OFFLINE is set: go online, or set fetch.backbone_dir to a folder that holds the checkpoint"
        ) from error
    except Exception as error:  # of the library, of what it speaks HTTP with, of the disk
        reason = " ".join(str(error).split())[:300]
        raise DownloadError(f"{address} cannot be had: {reason}") from error
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise DownloadError(
            f"{address}: {folder} lacks config.json or safetensors weights, and this program reads no others: name a "
            "commit that has both, or download it again"
        )
    return folder
