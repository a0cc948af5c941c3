"""Errors of commands: which are one line, and which keep their traceback."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.layout import Layout
from pipeline.params import Params, ParamsError
from pipeline.stage import stage


def run(error: Exception) -> Result:
    @stage
    def main(params: Params, paths: Layout) -> None:
        """Fails."""
        raise error

    return CliRunner().invoke(main, ["demo", "diary"])


def test_a_full_disk_is_a_sentence() -> None:
    """A full disk is one line with what is kept and what to do, with or without a file name; the status is not 0."""
    for error in (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), OSError(errno.EDQUOT, "Quota exceeded", "/x/y")):
        result = run(error)
        assert result.exit_code == 1
        assert "what was finished is kept: make room and run again" in result.output
        assert "Traceback" not in result.output
    assert "no room to write /x/y: Quota exceeded" in result.output


def test_a_file_that_fills_a_real_device_is_one_too() -> None:
    """The system's own error comes out the same way."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        full.write_text("x")
    assert "no room to write" in run(caught.value).output


def test_own_errors_and_missing_files_are_a_line_and_others_are_not() -> None:
    """An error that this project defines is its message, a missing file its name, and a bug keeps its traceback."""
    assert run(ParamsError("a sentence")).output == "Error: a sentence\n"
    assert run(FileNotFoundError(2, "No such file", "params.yaml")).output == "Error: params.yaml: No such file\n"
    assert isinstance(run(ValueError("a bug")).exception, ValueError)
