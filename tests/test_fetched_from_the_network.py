"""Stage `fetch` with a data set and a checkpoint from the network, which here is a server on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline import params
from pipeline.layout import Layout
from pipeline.params import ParamsError
from tests.projects import REPOSITORY, make_project
from tests.test_downloads import zipped

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CHECKPOINT = {
    "config.json": b'{"model_type": "vjepa2"}',
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"a pickle",
    "modeling_evil.py": b"import os",
}
ANNOTATIONS = {
    "Charades/Charades_v1_classes.txt": b"c000 Holding some clothes\n",
    "Charades/Charades_v1_train.csv": b"id,subject,scene,actions,length\n",
}


class Handler(BaseHTTPRequestHandler):
    """An archive, and the endpoints of a hub that a snapshot needs."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append((path, dict(self.headers)))
        if path == f"/api/models/somebody/tiny/tree/{COMMIT}":
            files = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in CHECKPOINT.items()
            ]
            self.send(json.dumps(files).encode(), "application/json")
        elif path.startswith(f"/somebody/tiny/resolve/{COMMIT}/"):
            self.send(CHECKPOINT[path.rpartition("/")[2]], "application/octet-stream")
        elif path in self.server.archives:
            self.send(self.server.archives[path], "application/zip")
        else:
            self.send_error(404)

    def send(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.archives = {
            "/Charades.zip": zipped(ANNOTATIONS),
            "/Charades_v1_480.zip": zipped({"AB12C.mp4": b"film"}),
        }
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def project(tmp_path: Path) -> Layout:
    """A project with a data set in a folder, and a checkpoint of the hub."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "a.mp4").write_bytes(b"film")
    values: dict[str, Any] = {"dataset_dir": str(mine), "backbone_dir": f"hf://somebody/tiny@{COMMIT}"}
    return make_project(tmp_path / "project", **values)


def fetched(project: Layout, **environment: str) -> subprocess.CompletedProcess[str]:
    """Stages `sources` and `fetch`; what the second one printed."""
    home = {"HF_HOME": str(project.root.parent / "hub"), "PYTHONPATH": str(REPOSITORY)}
    for stage in ("sources", "fetch"):
        done = subprocess.run(
            [sys.executable, "-m", f"pipeline.stages.{stage}", project.profile],
            cwd=project.root,
            env=os.environ | home | environment,
            text=True,
            capture_output=True,
            check=False,
        )
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.slow
def test_a_checkpoint_of_the_hub_is_weights_and_json_alone(server: Server, project: Layout) -> None:
    """No code and no pickle is even asked for; the next run works offline; what is not there then is a sentence."""
    done = fetched(project, HF_ENDPOINT=server.address)
    assert done.returncode == 0, done.stderr
    files = {path.name: path.read_bytes() for path in project.backbone.iterdir() if path.name != ".fetched"}
    assert files == {name: CHECKPOINT[name] for name in ("config.json", "model.safetensors")}
    asked = {path.rpartition("/")[2] for path, _ in server.asked}
    assert asked == {COMMIT, "config.json", "model.safetensors"}
    server.asked.clear()
    assert fetched(project, HF_ENDPOINT=server.address, HF_HUB_OFFLINE="1").returncode == 0
    assert server.asked == []
    done = fetched(project, HF_HUB_OFFLINE="1", HF_HOME=str(project.root.parent / "another"))
    assert done.returncode == 1
    assert f"hf://somebody/tiny@{COMMIT} is not in the hub's cache on this machine" in done.stderr
    assert "set fetch.backbone_dir to a folder" in done.stderr


@pytest.mark.slow
def test_a_data_set_is_downloaded_and_linked(server: Server, project: Layout, tmp_path: Path) -> None:
    """Into the folder that the params name; the links lead there; a second run asks for nothing."""
    backbone = tmp_path / "backbone"
    backbone.mkdir()
    (backbone / "config.json").write_text("{}")
    values: dict[str, Any] = {
        "dataset": "download",
        "dataset_dir": str(tmp_path / "Charades"),
        "backbone_dir": str(backbone),
        "download": [{"url": f"{server.address}{name}"} for name in server.archives],
    }
    downloading = make_project(tmp_path / "downloading", **values)
    done = fetched(downloading)
    assert done.returncode == 0, done.stderr
    links = {path.relative_to(downloading.dataset).as_posix() for path in downloading.dataset.rglob("*.*")}
    assert links == {*ANNOTATIONS, "Charades_v1_480/AB12C.mp4", ".fetched"}
    film = downloading.dataset / "Charades_v1_480" / "AB12C.mp4"
    assert film.resolve() == tmp_path / "Charades" / "Charades_v1_480" / "AB12C.mp4"
    server.asked.clear()
    assert fetched(downloading).returncode == 0
    assert server.asked == []


@pytest.mark.parametrize(
    ("fetch", "told"),
    [
        ({"backbone_dir": "hf://facebook/vjepa2"}, r"fetch\.backbone_dir: .* a branch may change under you"),
        ({"backbone_dir": "hf://facebook/vjepa2@main"}, r"fetch\.backbone_dir: .* 40 hex digits of a commit"),
        ({"dataset": "hub"}, r"fetch\.dataset: should be 'path' or 'download', got 'hub'"),
        ({"dataset": "download", "download": []}, r"fetch: dataset: download needs the archives' addresses"),
        ({"download": [{"url": "ftp://a/b.zip"}]}, r"fetch\.download\.0\.url: "),
        ({"download": [{"url": "http://a/b.tar"}]}, r"fetch\.download\.0: url must end with the name of a ZIP file"),
        ({"download": [{"url": "http://a/b.zip", "md5": "1"}]}, r"fetch\.download\.0\.md5: unknown key.* url, bytes"),
        ({"download": [{"url": "http://a/b.zip", "sha256": "6E"}]}, r"fetch\.download\.0\.sha256: "),
        ({"download": [{"url": f"http://{a}/b.zip"} for a in "ab"]}, "fetch: download names two archives of one name"),
    ],
)
def test_what_cannot_be_downloaded_is_refused_with_its_key(tmp_path: Path, fetch: dict[str, Any], told: str) -> None:
    """A checkpoint without a pinned commit above all: it could change under the user."""
    project = make_project(tmp_path, **fetch)
    with pytest.raises(ParamsError, match=told):
        params.load(project.root, project.profile)
