"""`diary learn`: a model that has learned from what was said of diaries, and the diaries as it states them."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from pipeline.cli.project import find_project, open_project
from pipeline.stage import logging_to_stderr, one_line_errors

log = logging.getLogger(__name__)

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("diaries", nargs=-1, required=True, metavar="DIARIES…", type=_FOLDER)
@click.option("--profile", help="Profile of the project's model.  [default: of params.yaml]")
@click.option("--labels", "label_set", help="Label set of the project's model.  [default: the first of params.yaml]")
@click.option("--project", type=_FOLDER, help="Folder of params.yaml.  [default: here or above]")
def learn(diaries: tuple[Path, ...], profile: str | None, label_set: str | None, project: Path | None) -> None:
    """Let a model learn from what was said in DIARIES, and write these diaries anew with it.

    DIARIES are folders that `diary write` wrote to and `diary review` or `diary amend` corrected. The temporal head of
    the project goes on learning, from its own data and the corrections; no video is read, since all embeddings are
    kept. Needs a project after `dvc repro`. Recordings that the project chooses or measures models by teach nothing.

    The model is written to `model` in the first of DIARIES: `diary write --model DIARIES/model` uses it for further
    videos. What changed is printed.

    \b
    Exit status: 0  all diaries are written
                 1  a recording stays as it was, the others are written; or nothing could be done
    """
    with logging_to_stderr(), one_line_errors():
        # Imported here, so that `--help` answers at once.
        from contextlib import ExitStack

        from features.files import locked, private_files
        from pipeline.diaries.output import MODEL
        from pipeline.learning import learn as learn_model
        from pipeline.learning import require_place
        from pipeline.model_folder import load_recogniser
        from pipeline.recordings import restate_diaries
        from pipeline.review.recordings import open_diaries
        from reports.changes import Changes

        params, paths = open_project(project or find_project(), profile, label_set)
        folders = list(dict.fromkeys(folder.resolve() for folder in diaries))
        for folder in folders:
            open_diaries(folder)
        with private_files(), ExitStack() as held:
            for folder in sorted(folders):
                held.enter_context(locked(folder))
            outputs = [open_diaries(folder)[0] for folder in folders]
            out = folders[0] / MODEL
            require_place(out, outputs[0])
            learned = learn_model(out, outputs, params, paths)
            recogniser = load_recogniser(out)
            restated, failures = [], []
            for output in outputs:
                own, lines = restate_diaries(output, recogniser)
                restated += own
                failures += lines
        for line in [*sum((each.changes() for each in restated), Changes()).lines(), learned.line]:
            click.echo(line)
        click.echo(out)
        if failures:
            raise click.ClickException("\n".join(failures))
