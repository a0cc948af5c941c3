"""One cache that machines share: an object store or a folder, filled at once, by shares, through lost races."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from features import hashes
from features.cache import EmbeddingCache, remove_pieces
from features.clips import Source
from features.files import locked
from features.hashes import HASHES
from features.pieces.objects import ObjectPieces
from features.pieces.places import FolderPieces, Pieces, PiecesError, pieces_at
from features.sharing import Share, ShareError, extract_share
from pipeline import params
from pipeline.frozen import Extractor
from pipeline.layout import Layout
from pipeline.plain_yaml import ParamsError
from pipeline.stages.extract import main
from pipeline.stages.extract_recordings import main as extract_recordings
from tests.forks import ForkServer
from tests.shared_world import NUM_VIDEOS, SELECTION, assemble, loader, made_up, sources, whole, world
from tests.videos import evenly, write_video

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

__all__ = ["whole", "world"]

BUCKET = "diary"


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """An S3 server on loopback with a bucket; the environment has what reaches it."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        made = urllib.request.Request(f"http://{host}:{port}/{BUCKET}", method="PUT")
        urllib.request.urlopen(made).close()
        yield f"s3://{BUCKET}"
        server.stop()


@pytest.fixture(params=["folder", "local store", "S3"])
def pieces(request: pytest.FixtureRequest, tmp_path: Path) -> Pieces:
    """An empty place of each kind."""
    if request.param == "folder":
        return pieces_at(tmp_path.as_uri())
    if request.param == "local store":
        from obstore.store import LocalStore

        return ObjectPieces(LocalStore(tmp_path), str(tmp_path))
    return pieces_at(f"{request.getfixturevalue('bucket')}/verbs")


def test_every_place_has_the_same_verbs(pieces: Pieces) -> None:
    """A piece is created once and never changes; what is not there is None, and deleting it again does nothing."""
    assert (pieces.has("a/x"), pieces.get("a/x"), pieces.list("a")) == (False, None, set())
    assert pieces.create("a/x", b"first")
    assert not pieces.create("a/x", b"second")
    assert pieces.create("b/y", b"other")
    assert (pieces.has("a/x"), pieces.get("a/x"), pieces.list("a")) == (True, b"first", {"x"})
    pieces.delete("a/x")
    pieces.delete("a/x")
    assert (pieces.has("a/x"), pieces.list("a"), pieces.list("b")) == (False, set(), {"y"})


def test_of_many_who_create_a_piece_one_wins(pieces: Pieces) -> None:
    """Whatever they bring, exactly one is told that it created the piece, and its bytes are there, whole."""
    contents = [bytes([number]) * 50_000 for number in range(8)]
    won: list[bytes] = []
    start = threading.Barrier(len(contents))

    def create(content: bytes) -> None:
        start.wait()
        if pieces.create("race/piece", content):
            won.append(content)

    threads = [threading.Thread(target=create, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert pieces.get("race/piece") == won[0]
    assert pieces.list("race") == {"piece"}


def test_a_second_machine_computes_nothing(bucket: str, world: Path, whole: dict[str, str], tmp_path: Path) -> None:
    """It has the pieces from the bucket, also where its own copy or the bucket's was damaged; same bytes."""
    shared = f"{bucket}/machines"
    first = loader(world, tmp_path / "first", shared)()
    assert first.extract(sources(world), SELECTION).num_embedded == NUM_VIDEOS
    second = loader(world, tmp_path / "second", shared)()
    extraction = second.extract(sources(world), SELECTION)
    assert (extraction.num_embedded, extraction.num_reused) == (0, NUM_VIDEOS)
    assert assemble(second, extraction, tmp_path) == whole

    damaged = second.encoder.cache.folder / f"{extraction.sha256s['v03']}.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert loader(world, tmp_path / "second", shared)().extract(sources(world), SELECTION).num_embedded == 0
    place, name = pieces_at(shared), f"{second.encoder.cache.key}/{extraction.sha256s['v04']}.safetensors"
    good = place.get(name)
    assert good is not None
    place.delete(name)
    place.create(name, good[:-1])
    third = loader(world, tmp_path / "third", shared)()
    extraction = third.extract(sources(world), SELECTION)
    assert (extraction.num_embedded, extraction.num_reused) == (1, NUM_VIDEOS - 1)
    assert place.get(name) == good
    assert assemble(third, extraction, tmp_path) == whole


def test_what_was_computed_before_it_was_shared_is_shared(
    bucket: str, world: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    """A machine that is given a shared place brings its own pieces and failures there."""
    (tmp_path / "broken.mp4").write_text("no video")
    videos = [*sources(world), Source("broken", tmp_path / "broken.mp4")]
    assert loader(world, tmp_path / "own")().extract(videos, SELECTION).num_embedded == NUM_VIDEOS
    shared = f"{bucket}/later"
    assert loader(world, tmp_path / "own", shared)().extract(videos, SELECTION).num_embedded == 0
    other = loader(world, tmp_path / "other", shared)()
    extraction = other.extract(videos, SELECTION)
    assert (extraction.num_embedded, extraction.num_known) == (0, 1)
    assert assemble(other, extraction, tmp_path) == whole


def test_pieces_of_the_version_before_serve(world: Path, whole: dict[str, str], tmp_path: Path) -> None:
    """It named block inputs without their windows."""
    extractor = loader(world, tmp_path / "cache")()
    extractor.extract(sources(world), SELECTION)
    pieces = list(extractor.encoder.cache.folder.glob("*.block-inputs-fp16-*.safetensors"))
    for piece in pieces:
        piece.rename(piece.with_name(f"{piece.name.partition('.')[0]}.block-inputs-fp16.safetensors"))
    assert len(pieces) == 2
    again = loader(world, tmp_path / "cache")()
    extraction = again.extract(sources(world), SELECTION)
    assert extraction.num_embedded == 0
    assert assemble(again, extraction, tmp_path) == whole


def test_an_unreachable_bucket_is_a_sentence(bucket: str, world: Path, tmp_path: Path) -> None:
    """It names the address and the param, before anything is decoded; so does an address that is none."""
    extractor = loader(world, tmp_path / "cache", "s3://nobody-has-this/x")()
    with pytest.raises(PiecesError, match=r"s3://nobody-has-this/x cannot be reached .* check extract\.cache") as error:
        extractor.extract(sources(world), SELECTION)
    assert len(str(error.value).splitlines()) == 1
    assert not list((tmp_path / "cache").glob("*/*.safetensors"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with pytest.raises(PiecesError, match="cannot be reached"):
            pieces_at("s3://diary").has("x")
    for address in ("/no/scheme", "s3://", "ftp://host/x", "file://host/x"):
        with pytest.raises(PiecesError, match=r"got '.*': correct extract\.cache"):
            pieces_at(address)


@dataclass(frozen=True)
class FadingPieces(FolderPieces):
    """A place that cannot be reached any more once it has so many pieces."""

    most: int = 0

    def create(self, name: str, content: bytes) -> bool:
        if sum(path.is_file() for path in self.root.rglob("*")) >= self.most:
            raise PiecesError(f"{self.root} cannot be reached")
        return super().create(name, content)


def test_a_place_that_is_lost_on_the_way_costs_one_video(world: Path, whole: dict[str, str], tmp_path: Path) -> None:
    """What was finished is kept; when the place is back, the rest is computed."""
    extractor = loader(world, tmp_path / "cache")()
    fading = FadingPieces(tmp_path / "shared", most=6)
    cache = EmbeddingCache(tmp_path / "cache", extractor.provenance, fading)
    extractor = replace(extractor, encoder=replace(extractor.encoder, cache=cache))
    with pytest.raises(PiecesError, match="cannot be reached"):
        extractor.extract(sources(world), SELECTION)
    again = loader(world, tmp_path / "cache", (tmp_path / "shared").as_uri())()
    extraction = again.extract(sources(world), SELECTION)
    num_kept = 6 - 2  # besides provenance.json and the block inputs of the first video
    assert (extraction.num_embedded, extraction.num_reused) == (NUM_VIDEOS - num_kept, num_kept)
    assert assemble(again, extraction, tmp_path) == whole


def run_share(world: Path, machine: Path, shared: str, text: str) -> None:
    """What one process does, and in `machine / counts` how many it embedded, how many failed and others did."""
    extractor = loader(world, machine, shared)()
    cache = extractor.encoder.cache
    with cache.locked():
        done = extract_share(
            Share.parse(text), sources(world), cache=cache, selection=SELECTION, extract=extractor.extract
        )
    (machine / "counts").write_text(f"{done.num_embedded} {done.num_failed} {done.num_others}")


def test_shares_together_are_the_whole(
    world: Path, whole: dict[str, str], fork_server: ForkServer, tmp_path: Path
) -> None:
    """Three processes on one folder, of which one never comes: the others do its part; each video counts once."""
    shared = (tmp_path / "shared").as_uri()
    machines = [tmp_path / f"machine{number}" for number in (1, 2)]
    started = [
        fork_server.start(run_share, world, machine, shared, f"{number}/3")
        for number, machine in enumerate(machines, 1)
    ]
    assert [fork_server.wait(pid) for pid in started] == [0, 0]
    counts = [tuple(map(int, (machine / "counts").read_text().split())) for machine in machines]
    assert all(sum(count) == NUM_VIDEOS for count in counts)
    assert all(num_failed == 0 for _, num_failed, _ in counts)
    assert NUM_VIDEOS <= sum(num_embedded for num_embedded, _, _ in counts) < 2 * NUM_VIDEOS
    extractor = loader(world, tmp_path / "assembling", shared)()
    extraction = extractor.extract(sources(world), SELECTION)
    assert extraction.num_embedded == 0
    assert assemble(extractor, extraction, tmp_path) == whole


def test_a_share_is_a_part_that_hardly_moves() -> None:
    """Parts are disjoint, of about one size, and a further process takes its part from all others alike."""
    digests = [f"{number:064x}" for number in range(3000)]
    three = [set(Share(number, 3).order(digests)[0]) for number in (1, 2, 3)]
    four = [set(Share(number, 4).order(digests)[0]) for number in (1, 2, 3, 4)]
    assert sum(map(len, three)) == len(set.union(*three)) == 3000
    assert all(900 < len(part) < 1100 for part in three)
    assert all(four[number] <= three[number] for number in range(3))
    own, others = Share(2, 3).order(digests)
    assert sorted(own + others) == digests
    assert others != Share(3, 3).order(digests)[1]
    assert Share.parse("2/3") == Share(2, 3)
    for text in ("0/3", "4/3", "2", "2/", "a/b", "-1/3"):
        with pytest.raises(ShareError, match="wanted 1/n to n/n"):
            Share.parse(text)


def count_embedded(extractor: Extractor, videos: list[Source]) -> tuple[int, int, int]:
    extraction = extractor.extract(videos, replace(SELECTION, windows={}))
    return extraction.num_embedded, len(extraction.failures), extraction.num_known


def test_a_failure_is_kept_until_it_is_asked_for(bucket: str, world: Path, tmp_path: Path) -> None:
    """No machine tries a video again that another could not read; a changed file, and a request, are tried."""
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    videos = [*sources(world)[:2], Source("broken", broken)]
    shared = f"{bucket}/failures"
    assert count_embedded(loader(world, tmp_path / "first", shared)(), videos) == (2, 1, 0)
    second = loader(world, tmp_path / "second", shared)()
    assert count_embedded(second, videos) == (0, 1, 1)
    assert second.extract(videos, SELECTION).failures["broken"].found == "text"
    cache = second.encoder.cache
    failed = cache.failures([path.name[:64] for path in cache.folder.glob("*.failed.json")])
    assert [found for _, found in failed.values()] == ["text"]
    cache.forget_failures(failed)
    assert count_embedded(second, videos) == (0, 1, 0)
    broken.write_bytes((world / "v02.mp4").read_bytes())
    assert count_embedded(second, videos) == (1, 0, 0)


def test_an_unchanged_video_is_not_hashed_again(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its path, size and time are enough, in a private file, of which purging forgets a video; a change is seen."""
    video = tmp_path / "video.mp4"
    video.write_bytes((world / "v01.mp4").read_bytes())
    an_hour_ago = time.time() - 3600
    os.utime(video, (an_hour_ago, an_hour_ago))
    first, _ = hashes.hashed([video], tmp_path / "cache")
    read: list[Path] = []
    sha256_of = hashes.sha256_of

    def counted(*paths: Path) -> str:
        read.extend(paths)
        return sha256_of(*paths)

    monkeypatch.setattr(hashes, "sha256_of", counted)
    assert hashes.hashed([video], tmp_path / "cache") == (first, {})
    assert read == []
    assert (tmp_path / "cache" / HASHES).stat().st_mode & 0o077 == 0
    content = bytearray(video.read_bytes())
    content[-1] ^= 1
    video.write_bytes(content)  # the same size, at another time
    second, _ = hashes.hashed([video], tmp_path / "cache")
    assert second != first
    assert hashes.hashed([video], tmp_path / "cache") == (second, {})
    assert read == [video, video]  # a file of just now is never taken for known
    with locked(tmp_path / "cache"):
        remove_pieces(tmp_path / "cache", first[video])
    assert first[video] not in (tmp_path / "cache" / HASHES).read_text()


def test_parts_of_two_processes_are_never_joined(tmp_path: Path) -> None:
    """Of one video that two are at, each keeps only parts of its own kind: the second is told that it lost."""
    one, other = (EmbeddingCache(tmp_path, {"made": "here"}) for _ in range(2))
    with one.locked(), other.locked():
        assert one.put_part("a" * 64, 0, made_up(5), thumbnails=None)
        assert not other.put_part("a" * 64, 0, made_up(7), thumbnails=None)
        assert len(one.load_part("a" * 64, 0)[0]) == 5


def test_the_stage_takes_a_share() -> None:
    """A wrong one is a sentence."""
    done = CliRunner().invoke(main, ["demo", "--share", "5/4"])
    assert done.exit_code == 1
    assert "--share is the second of three as 2/3, got '5/4'" in done.output


def test_an_address_of_a_cluster_is_for_ray(tmp_path: Path) -> None:
    """With engine local it would be passed over in silence."""
    (tmp_path / "params").mkdir()
    text = Path(__file__).parents[1].joinpath("params", "demo.yaml").read_text()
    text = text.replace("ray_address: null", "ray_address: auto")
    (tmp_path / "params" / "demo.yaml").write_text(text)
    with pytest.raises(ParamsError, match="extract: ray_address is for engine ray, got engine local"):
        params.load(tmp_path, "demo")


def test_recordings_of_a_person_are_never_shared(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever `extract.cache` names, what is kept of recordings stays in the account's folder."""
    root = Path(__file__).parents[1]
    text = (root / "params" / "demo.yaml").read_text()
    shared = tmp_path / "shared"
    for old, new in {"  cache: null": f"  cache: {shared.as_uri()}", "num_workers: 2 ": "num_workers: 0 "}.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "demo.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    paths = Layout("demo")
    shutil.copytree(root / "pipeline" / "demo" / "backbone", paths.backbone)
    paths.recordings.mkdir()
    write_video(paths.recordings / "me.mp4", evenly(36, 12), size=(64, 48))
    before = {path.name for path in own_cache.glob("*/*.safetensors")}
    done = CliRunner().invoke(extract_recordings, ["demo"])
    assert done.exit_code == 0, done.output
    assert len({path.name for path in own_cache.glob("*/*.safetensors")} - before) == 2
    assert not shared.exists()
