"""Stage `finetune` under torchrun: two processes train what one trains, on the same windows."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from features.clips import Source
from heads import weights
from heads.training.batches import Plan, plan_batches
from heads.training.processes import UnevenShares, shares_batches
from pipeline.stages import finetune
from tests.test_finetuning import Stages, World, world  # noqa: F401 (a fixture)

REPOSITORY = Path(__file__).parents[1]


def history(stages: Stages) -> list[dict[str, str]]:
    with stages.paths.history("finetune").open(newline="") as file:
        return list(csv.DictReader(file))


def run_on_two(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*command, "-m", "pipeline.stages.finetune", "demo", "actions"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.device_count() == 1, reason="each process wants a GPU of its own")
@pytest.mark.parametrize(("batch_size", "accumulation", "source"), [(1, 2, "block_inputs"), (2, 1, "video")])
def test_two_processes_have_the_losses_of_one(
    world: World,  # noqa: F811
    tmp_path: Path,
    batch_size: int,
    accumulation: int,
    source: str,
) -> None:
    """Each has half of an update's windows, as batches or as parts of them: all losses are the same to 1e-6."""
    stages = Stages.written(world, tmp_path, source=source, batch_size=batch_size, accumulation=accumulation)
    stages.run(finetune.main)
    alone, tensors = history(stages), weights.load(stages.paths.model("finetune"), expected={})[0]
    done = run_on_two(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"finetuned from {source} for 12 steps of {batch_size} windows") == 1
    rows = history(stages)
    assert [row["step"] for row in rows] == ["0", "6", "12"] == [row["step"] for row in alone]
    for row, one in zip(rows, alone, strict=True):
        for name in ("train_loss", "val_loss", "val_map"):
            assert (row[name] == "") == (one[name] == "")
            assert float(row[name] or 0) == pytest.approx(float(one[name] or 0), abs=1e-6), (row, one)
    for name, tensor in weights.load(stages.paths.model("finetune"), expected={})[0].items():
        torch.testing.assert_close(tensor, tensors[name], rtol=0, atol=1e-5)
    assert not list(tmp_path.rglob("*.partial"))
    assert float(alone[-1]["train_loss"]) != float(alone[-1]["val_loss"])


def test_an_update_that_cannot_be_shared_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence with the numbers and the params that fit; batches are shared whole where that is even."""
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert shares_batches(accumulation=6, batch_size=1, evaluate_every_steps=12)
    assert not shares_batches(accumulation=6, batch_size=3, evaluate_every_steps=10)
    with pytest.raises(UnevenShares, match="3 processes cannot share updates of 4 batches of 2 windows evenly"):
        shares_batches(accumulation=4, batch_size=2, evaluate_every_steps=12)


@pytest.mark.parametrize("of_batches", [True, False])
def test_shares_of_a_plan_are_the_plan(of_batches: bool) -> None:
    """Each window of each batch is in one share, from the same pass; a share reads no other windows."""
    plan = plan_batches(
        [Source(name, Path(name)) for name in "abc"],
        {name: range(7) for name in "abc"},
        steps=6,
        batch_size=4,
        windows_per_pass=3,
        buffer_size=8,
        start_frames=3,
        mirrored_share=0.5,
        generator=torch.Generator().manual_seed(0),
    )
    shares = [plan.share(number, 2, of_batches=of_batches) for number in range(2)]
    assert plan.share(0, 1, of_batches=of_batches) == plan

    def drawn(own: Plan, batch: int) -> list[tuple[str, int, int, bool]]:
        return [
            (own.passes[number].video_id, own.passes[number].first_frame, window, mirrored)
            for number, window, mirrored in own.batches[batch]
        ]

    for batch in range(6):
        if of_batches:
            assert drawn(shares[batch % 2], batch // 2) == drawn(plan, batch)
        else:
            parts = [drawn(share, batch) for share in shares]
            assert [*zip(*parts, strict=True)] == [*zip(drawn(plan, batch)[::2], drawn(plan, batch)[1::2], strict=True)]
