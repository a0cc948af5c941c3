"""A project's profile for labelled videos of the user's: its params, its label set, and its place in params.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from features.files import write_text
from pipeline import params, plain_yaml
from pipeline.dataset import kinds, labels
from pipeline.dataset.labels import LabelSet, read_label_set
from pipeline.dataset.roles import COLUMNS, check_roles, read_roles
from pipeline.fetch_params import HUB
from pipeline.layout import Layout

TEMPLATE = "folder"
"""The profile whose params a new one begins with."""
LABEL_SET = "diary"


@dataclass(frozen=True)
class NewProfile:
    """What was found in a data set and written for it; `unused` are labels that the label set leaves out."""

    splits: Mapping[str, Mapping[str, int | float]]
    num_videos: Mapping[str, Mapping[str, int]]
    notes: Sequence[str]
    written: Sequence[Path]
    unused: Sequence[str]


def make_profile(
    root: Path, profile: str, dataset: Path, *, backbone: str | None = None, recordings: Path | None = None
) -> NewProfile:
    """Make `profile` the one in use in the project `root`, for the labelled videos in the folder `dataset`.

    A params file, a label set and roles that are there are kept, but for the folders that they name. Raises
    `ParamsError`, `ManifestError` and `LabelError`; then nothing has changed.
    """
    paths = Layout(profile, LABEL_SET, root)
    file = root / params.profile_file(profile)
    base = profile if file.is_file() else TEMPLATE
    prepare = params.load(root, base).prepare
    annotations = kinds.read(dataset, val_share=prepare.val_share, seed=prepare.seed)
    label_set = read_label_set(paths.label_set) if paths.label_set.is_file() else annotations.classes
    try:
        labels.check(label_set, annotations.classes)
    except labels.LabelError as error:
        raise labels.LabelError(
            f"{error}\nremove it, and it is written for this data set; or name another --profile"
        ) from error
    if paths.roles.is_file():
        check_roles(paths.roles, read_roles(paths.roles), annotations.classes)

    fetch = {"dataset_dir": str(dataset.absolute())}
    if backbone:
        is_folder = not backbone.startswith(HUB)
        fetch["backbone_dir"] = str(Path(backbone).expanduser().absolute()) if is_folder else backbone
    fetch |= {"recordings_dir": str(recordings.absolute())} if recordings else {}
    changes: dict[tuple[str, ...], str] = {("fetch", key): value for key, value in fetch.items()}
    written = [_write_params(root, profile, plain_yaml.changed(root / params.profile_file(base), changes))]
    contents = {paths.label_set: _label_lines(annotations.classes), paths.roles: ",".join(COLUMNS) + "\n"}
    for path, text in contents.items():
        if not path.is_file():
            write_text(path, text)
            written.append(path)
    project = root / params.PROJECT_FILE
    write_text(project, plain_yaml.changed(project, {("profile",): profile, ("label_sets",): [LABEL_SET]}))
    return NewProfile(
        splits=annotations.videos.facts(),
        num_videos=annotations.videos.num_videos_with(label_set.ids),
        notes=annotations.notes,
        written=[*written, project],
        unused=sorted(set(annotations.classes.ids) - set(label_set.ids)),
    )


def _write_params(root: Path, profile: str, text: str) -> Path:
    """Write the params of a profile if they can be used; otherwise they are as before, and `ParamsError` is raised."""
    file = root / params.profile_file(profile)
    before = file.read_text(encoding="utf-8") if file.is_file() else None
    write_text(file, text)
    try:
        params.load(root, profile)
    except params.ParamsError:
        if before is None:
            file.unlink()
        else:
            write_text(file, before)
        raise
    return file


def _label_lines(classes: LabelSet) -> str:
    lines = ["# An id and a name a line, which the diary shows: rename, or delete what is not to be learned."]
    lines += [f"{label.id} {label.name}" for label in classes.labels]
    return "\n".join(lines) + "\n"
