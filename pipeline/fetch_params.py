"""Section `fetch` of the params: where the data set, the backbone and the recordings come from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlsplit

from annotated_types import Ge, Le
from pydantic import AfterValidator, Field

from pipeline.param_values import AtLeastOne, Files, FolderName, Positive, Seed

HUB = "hf://"
_HUB_ADDRESS = re.compile(r"hf://([\w-][\w.-]*/[\w-][\w.-]*)@([0-9a-f]{40})")
_ARCHIVE_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*)\.zip")
_MOST_BYTES = 2**50


@dataclass(frozen=True)
class RenderedFetch:
    source: Literal["rendered"]
    seed: Seed
    num_train_videos: AtLeastOne
    num_test_videos: AtLeastOne
    num_train_subjects: Annotated[int, Ge(2)]
    num_test_subjects: AtLeastOne
    mean_length_s: Positive
    recording_s: Positive
    corrections: Files


@dataclass(frozen=True)
class Archive:
    """A ZIP file at an address: its size and hash where they are known; of the hash, the first digits will do."""

    url: Annotated[str, Field(pattern=r"^https?://")]
    bytes: Annotated[int, Ge(1), Le(_MOST_BYTES)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")] | None = None

    def __post_init__(self) -> None:
        if not _ARCHIVE_NAME.fullmatch(self.name):
            raise ValueError(f"url must end with the name of a ZIP file, as in .../Charades.zip, got {self.url}")

    @property
    def name(self) -> str:
        return PurePosixPath(urlsplit(self.url).path).name

    @property
    def folder(self) -> str:
        """The name of the folder that it is unpacked to."""
        return self.name.removesuffix(".zip")


class HubModel(NamedTuple):
    """A model of the Hugging Face hub, and the commit that is meant."""

    repository: str
    revision: str


def hub_model(name: str) -> HubModel | None:
    """The model that `hf://owner/name@revision` means; None where `name` is a folder. Raises `ValueError`."""
    if not name.startswith(HUB):
        return None
    match = _HUB_ADDRESS.fullmatch(name)
    if match is None:
        raise ValueError(
            "a model of the hub is hf://owner/name@revision, where revision is the 40 hex digits of a commit, which "
            f"its page shows under Files, History: a branch may change under you; got {name}"
        )
    return HubModel(*match.groups())


def _require_hub_model(name: str) -> str:
    hub_model(name)
    return name


@dataclass(frozen=True)
class FolderFetch:
    """Files of the user's own. With `dataset: download`, `dataset_dir` is filled from the archives of `download`."""

    source: Literal["folder"]
    dataset_dir: FolderName
    backbone_dir: Annotated[FolderName, AfterValidator(_require_hub_model)]
    recordings_dir: FolderName | None
    corrections: Files
    dataset: Literal["path", "download"] = "path"
    download: tuple[Archive, ...] = ()

    def __post_init__(self) -> None:
        folders = [archive.folder for archive in self.download]
        if self.dataset == "download" and not folders:
            raise ValueError("dataset: download needs the archives' addresses, in a list named download")
        if len(set(folders)) < len(folders):
            raise ValueError(f"download names two archives of one name, got {', '.join(folders)}")

    def folder(self, key: str) -> str | None:
        """The folder of the user's that one of `FOLDER_KEYS` names; None without one, and for the hub's model."""
        name: str | None = getattr(self, key)
        return None if name is None or (key == "backbone_dir" and hub_model(name)) else name


FOLDER_KEYS = ("dataset_dir", "backbone_dir", "recordings_dir")
"""The params that name a folder of the user's each, in the order of `fetch`'s outs."""
