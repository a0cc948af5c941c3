"""What holds on a CUDA device: precision, copies beside the forward pass, trainings in each precision."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

from features.backbone import best_device, load_backbone
from features.clips import ClipReader, Source
from features.embed import embed_videos, submit_batch
from features.store.embeddings import VideoEmbeddings
from heads.losses import bce
from heads.training.batches import shuffled_batches
from heads.training.candidates import Candidate, History
from heads.training.loop import fit
from heads.training.processes import TooFewDevices, joined_processes
from heads.training.schedule import Precision
from pipeline.stage import one_line_errors
from tests.shared_world import PLAN
from tests.test_training import SCHEDULE, evaluate_on_val, group_of, new_head, world
from tests.tiny_backbone import PREPROCESSING, write_backbone
from tests.videos import evenly, write_video

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cuda")
    write_video(root / "v.mp4", evenly(60, 12), size=(64, 48))
    write_backbone(root / "backbone")
    return root


def embedded(folder: Path, device: str, dtype: torch.dtype) -> tuple[VideoEmbeddings, torch.Tensor]:
    """Embeddings of a video of 5 s, and the block inputs of two of its windows."""
    backbone = load_backbone(folder / "backbone", dtype=dtype)
    backbone.to(torch.device(device))
    ((_, part),) = embed_videos(
        backbone,
        [Source("v", folder / "v.mp4")],
        ClipReader(PLAN, PREPROCESSING, "pyav"),
        block_input_windows={"v": frozenset({0, 4})},
        batch_size=4,
        num_workers=0,
        device=torch.device(device),
    )
    video = part.result()
    assert video.block_input_windows == (0, 4)
    return video.embeddings, video.block_inputs.float()


@NEEDS_CUDA
@pytest.mark.parametrize(("dtype", "distance"), [(torch.float32, 1e-7), (torch.float16, 1e-5), (torch.bfloat16, 2e-3)])
def test_embeddings_are_those_of_a_cpu(folder: Path, dtype: torch.dtype, distance: float) -> None:
    """To the precision that is asked for: in fp32 no convolution rounds to TF32. Twice the same, bit for bit."""
    assert best_device().type == "cuda"
    (wanted, block_inputs), (found, same), (again, _) = (
        embedded(folder, device, precision)
        for device, precision in (("cpu", torch.float32), ("cuda", dtype), ("cuda", dtype))
    )
    assert len(wanted) == len(found) == 9
    for name, vectors in wanted.vectors.items():
        ours = torch.from_numpy(found.vectors[name].astype(np.float64))
        assert (1 - F.cosine_similarity(torch.from_numpy(vectors.astype(np.float64)), ours)).max() < distance
        np.testing.assert_array_equal(found.vectors[name], again.vectors[name])
    error = (same - block_inputs).norm() / block_inputs.norm()
    assert error < (1e-5 if dtype == torch.float32 else 0.02)


@NEEDS_CUDA
def test_a_batch_is_submitted_without_waiting(folder: Path) -> None:
    """Nothing on the way to the device waits for what it computes, so that the next batch is ready in time."""
    backbone = load_backbone(folder / "backbone", dtype=torch.bfloat16)
    device = torch.device("cuda")
    backbone.to(device)
    reader = ClipReader(PLAN, PREPROCESSING, "pyav")
    clips = list(reader.clips(Source("v", folder / "v.mp4")))[:4]
    submit_batch(backbone, reader, clips, frozenset({1}), device, None).wait()  # makes what is made once
    try:
        torch.cuda.set_sync_debug_mode("error")
        batches = [submit_batch(backbone, reader, clips, kept, device, None) for kept in (frozenset({1}), frozenset())]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    (pooled, kept_inputs), (same, none) = (batch.wait() for batch in batches)
    assert kept_inputs.shape[0] == 1
    assert none.shape[0] == 0
    for name, vectors in pooled.items():
        assert torch.equal(vectors, same[name])


@NEEDS_CUDA
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_head_trains_in_each_precision(precision: Precision) -> None:
    """The loss falls, a second training gives the same bits, and the model comes back to the CPU."""

    def trained() -> tuple[dict[str, torch.Tensor], History]:
        head, generator = new_head(), torch.Generator().manual_seed(11)
        (history,) = fit(
            head,
            train_batches=shuffled_batches(*world(1), batch_size=16, generator=generator),
            evaluate=evaluate_on_val,
            candidates=[Candidate("head", [group_of(head)], bce)],
            schedule=dataclasses.replace(SCHEDULE, precision=precision),
            generator=generator,
            checkpoint=None,
            cpu=False,
        )
        return head.state_dict(), history

    (weights, history), (again, _) = trained(), trained()
    assert history.rows[-1].val_loss < history.rows[0].val_loss
    for name, tensor in weights.items():
        assert tensor.device.type == "cpu"
        assert torch.equal(tensor, again[name])


@NEEDS_CUDA
def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence with both numbers and the option that fits; nothing waits for a process that cannot begin."""
    num_devices = torch.cuda.device_count()
    for name, value in {"WORLD_SIZE": num_devices + 1, "LOCAL_WORLD_SIZE": num_devices + 1, "LOCAL_RANK": 0}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(TooFewDevices, match=f"has {num_devices} for {num_devices + 1} processes.*{num_devices}$"):
        joined_processes(cpu=False, precision="fp32")


@click.command()
@click.option("--gib", type=int, default=0)
def fill(gib: int) -> None:
    with one_line_errors():
        if not gib:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. See documentation")
        torch.empty(gib * 2**30, dtype=torch.uint8, device="cuda")


def test_a_full_device_is_told_in_a_line() -> None:
    """With what torch says of the sizes, and which params take less room."""
    done = CliRunner().invoke(fill)
    assert done.exit_code == 1
    assert done.output.startswith(
        "Error: no room on the GPU: CUDA out of memory. Tried to allocate 2.00 GiB; what was finished is kept: "
    )
    assert "lower extract.batch_size, or a training's batch_size (raise its accumulation by as much)" in done.output
    assert done.output.count("\n") == 1


@NEEDS_CUDA
def test_a_device_that_is_full_is_told_in_a_line() -> None:
    """What CUDA itself raises."""
    gib = torch.cuda.get_device_properties(0).total_memory // 2**30 + 1
    done = CliRunner().invoke(fill, ["--gib", str(gib)])
    assert done.exit_code == 1
    assert done.output.startswith("Error: no room on the GPU: CUDA out of memory. Tried to allocate ")


def test_a_hidden_device_is_not_used() -> None:
    """`CUDA_VISIBLE_DEVICES=` leaves the CPU: what somebody sets who wants the numbers of a CPU."""
    code = "from features.backbone import best_device; print(best_device().type)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() in ("cpu", "mps")
