"""The server of the review: who is let in, what is served, and what becomes of an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from pipeline.review.server import make_app
from reports.corrections import read_corrections
from tests.reviews import ADDRESS, KITCHEN, NAMES, made, out, session_of

__all__ = ["made", "out"]

HOME = f"/{ADDRESS.token}"
SENT = {"recording": "kitchen", "verdict": "right", "who": "ada", "label": "sit", "start_s": 1, "end_s": 5}


@pytest.fixture
def client(out: Path) -> Iterator[TestClient]:
    with TestClient(make_app(session_of(out), ADDRESS), base_url=ADDRESS.origin) as client:
        yield client


def post(client: TestClient, content: Any, **headers: str) -> Any:
    return client.post(f"{HOME}/corrections", json=content, headers={"Origin": ADDRESS.origin, **headers})


PATHS = ["/", "/review.js", "/session", "/video/kitchen", "/picture/kitchen/3000"]


@pytest.mark.parametrize("path", PATHS)
def test_only_who_knows_the_token_is_let_in(client: TestClient, path: str) -> None:
    """A wrong one, a part of it and none at all are the same; what is refused tells nothing."""
    assert client.get(HOME + path).status_code == 200
    for wrong in ("", "/the-toke", "/the-token2", "/THE-TOKEN", "/the-token\u0301", "//the-token"):
        refused = client.get(wrong + path)
        assert refused.status_code == 403, wrong
        assert "kitchen" not in refused.text
    assert client.get(HOME).status_code == 403  # relative addresses need the slash


@pytest.mark.parametrize("path", PATHS)
def test_a_page_that_makes_its_name_lead_here_is_refused(client: TestClient, path: str) -> None:
    """DNS rebinding: the browser then names the other host, whatever address it reached."""
    for host in ("evil.example:8000", "evil.example", "127.0.0.1", "127.0.0.1:8001", "localhost:8000", ""):
        assert client.get(HOME + path, headers={"Host": host}).status_code == 421, host
    double = [("Host", ADDRESS.authority), ("Host", "evil.example")]
    assert client.get(HOME + path, headers=double).status_code == 421


def test_another_page_cannot_post(client: TestClient, out: Path) -> None:
    """Even one that knows the token: by its origin, its lack of one, or a content type that forms can send."""
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9999", "https://127.0.0.1:8000", ""):
        assert post(client, SENT, Origin=origin).status_code == 403, origin
        assert client.get(f"{HOME}/session", headers={"Origin": origin}).status_code == 403, origin
    assert client.post(f"{HOME}/corrections", json=SENT).status_code == 403
    form = client.post(
        f"{HOME}/corrections",
        content=json.dumps(SENT),
        headers={"Origin": ADDRESS.origin, "Content-Type": "text/plain"},
    )
    assert form.status_code == 415
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE"):
        assert client.request(method, f"{HOME}/corrections", headers={"Origin": ADDRESS.origin}).status_code == 403
    assert not (out / "corrections.jsonl").exists()
    assert post(client, SENT).status_code == 200


def test_every_answer_forbids_what_the_page_does_not_need(client: TestClient) -> None:
    """No other origin may read, frame or feed it, refusals included."""
    for path in (f"{HOME}/", f"{HOME}/session", f"{HOME}/video/kitchen", f"{HOME}/nothing", "/"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert not [name for name in headers if name.startswith("access-control")]
        assert "set-cookie" not in headers


def test_no_path_leads_out(client: TestClient, out: Path) -> None:
    """Whatever is put for a recording or a picture, nothing is served but listed videos and their pictures."""
    (out.parent / "secret.txt").write_text("secret")
    tries = [
        *("/../secret.txt", "/..%2fsecret.txt", "/video/..%2f..%2fsecret.txt", "/video/%2e%2e", "/video/..%5c..%5c"),
        *(
            "/video/kitchen/../../secret.txt",
            "/video/%252e%252e%252fsecret.txt",
            "/video/kitchen%00",
            "/video//etc/passwd",
        ),
        *("/picture/kitchen/..%2f..%2fmanifest.json", "/picture/../3000", "/picture/kitchen/3001"),
        *("/manifest.json", "/kitchen/events.jsonl", "/corrections.jsonl", "/corrections", "/page/review.html"),
    ]
    for path in tries:
        answer = client.get(HOME + path)
        assert answer.status_code in (403, 404, 405), path
        assert "secret" not in answer.text
    picture = out / "kitchen" / "thumbnails" / "000003000.jpg"
    assert client.get(f"{HOME}/picture/kitchen/3000").content == picture.read_bytes()
    picture.unlink()
    picture.symlink_to(out.parent / "secret.txt")
    assert client.get(f"{HOME}/picture/kitchen/3000").status_code == 404


def test_ranges_of_a_video(client: TestClient, out: Path) -> None:
    """Inside, to the end, from the end; one that begins behind the end is refused with the length."""
    video = (out.parent / "videos" / KITCHEN).read_bytes()
    address = f"{HOME}/video/kitchen"
    whole = client.get(address)
    assert (whole.status_code, whole.content) == (200, video)
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-type"] == "video/mp4"
    for asked, start, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        (f"bytes={len(video) - 5}-", len(video) - 5, len(video)),
        ("bytes=-7", len(video) - 7, len(video)),
        (f"bytes=10-{len(video) + 1000}", 10, len(video)),
    ):
        part = client.get(address, headers={"Range": asked})
        assert (part.status_code, part.content) == (206, video[start:end]), asked
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{len(video)}"
    behind = client.get(address, headers={"Range": f"bytes={len(video)}-"})
    assert behind.status_code == 416
    assert str(len(video)) in behind.headers["content-range"]
    assert client.get(address, headers={"Range": "bytes=9-2"}).status_code in (400, 416)
    assert client.head(address).headers["content-length"] == str(len(video))


def test_a_video_that_is_another_now_is_not_played(client: TestClient, out: Path) -> None:
    """Answers go by the hash of the video's bytes, so another file at its place must not be judged."""
    video = out.parent / "videos" / KITCHEN
    assert client.get(f"{HOME}/video/kitchen").status_code == 200
    video.write_bytes(video.read_bytes() + b"more")
    changed = client.get(f"{HOME}/video/kitchen")
    assert changed.status_code == 409
    assert "no longer the video" in changed.json()["error"]
    video.unlink()
    assert client.get(f"{HOME}/video/kitchen").status_code == 404


def test_names_with_html_are_data(client: TestClient) -> None:
    """The page has no name in it; they come as JSON, which the page writes as text."""
    state = client.get(f"{HOME}/session")
    assert state.headers["content-type"] == "application/json"
    assert state.json()["recordings"]["kitchen"]["file"] == KITCHEN
    assert {"id": "html", "name": NAMES["html"]}.items() <= state.json()["labels"][0].items()
    page = client.get(f"{HOME}/").text
    assert "onclick" not in page
    assert "innerHTML" not in client.get(f"{HOME}/review.js").text


def test_an_answer_is_a_line_with_all_that_is_to_be_known(client: TestClient, out: Path) -> None:
    sent = SENT | {"event_id": "kitchen-001", "probability": 0.9, "sampling": "random", "note": "it is"}
    answer = post(client, sent).json()
    (line,) = read_corrections(out / "corrections.jsonl")
    assert (line.id, line.who) == (answer["id"], "ada")
    assert (line.verdict, line.label, line.span) == ("right", "sit", (1000, 5000))
    assert (line.event_id, line.probability, line.sampling, line.note) == ("kitchen-001", 0.9, "random", "it is")
    assert line.model_sha256 == "a" * 64
    items = client.get(f"{HOME}/session").json()["items"]
    assert items[answer["answers"].index(line.id)]["event_id"] == "kitchen-001"
    assert [event["confirmed"] for event in answer["events"]["kitchen"]] == [True, False, False]
    assert (out / "corrections.jsonl").stat().st_mode & 0o077 == 0
    undone = post(client, {"recording": "kitchen", "verdict": "undo", "who": "ada", "undoes": line.id}).json()
    assert line.id not in undone["answers"]
    assert read_corrections(out / "corrections.jsonl") == []


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"label": "swim"}, "none of the 4 labels"),
        ({"end_s": 30}, "lasts 24 s"),
        ({"start_s": 5, "end_s": 5}, "ends after it starts"),
        ({"start_s": "nan"}, "got nan to"),
        ({"verdict": "maybe"}, "verdict"),
        ({"verdict": "undo", "undoes": "7"}, "perhaps it is undone already"),
        ({"recording": "../kitchen"}, "no such recording"),
        ({"recording": ["kitchen"]}, "no such recording"),
        ({"id": "mine"}, "id"),
        ({"who": " "}, "who"),
        ({"note": "x" * 3000}, "characters"),
        ({"verdict": "change"}, "needs a new label"),
    ],
)
def test_what_cannot_be_is_refused_in_words(client: TestClient, out: Path, fields: dict[str, Any], told: str) -> None:
    answer = post(client, SENT | fields)
    assert answer.status_code == 400
    assert told in answer.json()["error"]
    assert not (out / "corrections.jsonl").exists()


def test_what_is_no_json_is_refused(client: TestClient) -> None:
    headers = {"Origin": ADDRESS.origin, "Content-Type": "application/json"}
    for content in (b"", b"{", b"[]", b"null", b"\xff", b"9" * 5000):
        assert client.post(f"{HOME}/corrections", content=content, headers=headers).status_code == 400, content[:9]
    assert client.post(f"{HOME}/corrections", content=b" " * 70_000, headers=headers).status_code == 413


def test_an_answer_that_cannot_be_written_is_said(client: TestClient, out: Path) -> None:
    (out / "corrections.jsonl").mkdir()
    answer = post(client, SENT)
    assert answer.status_code == 507
    assert "cannot be written" in answer.json()["error"]
    (out / "corrections.jsonl").rmdir()
    assert not any(client.get(f"{HOME}/session").json()["answers"])


def test_two_reviewers_do_not_answer_for_each_other(client: TestClient) -> None:
    """Each has open what only the other has answered."""
    post(client, SENT)
    post(client, SENT | {"who": "bob", "verdict": "wrong"})
    for who, verdict in (("ada", "right"), ("bob", "wrong"), ("eve", None)):
        state = client.get(f"{HOME}/session", params={"who": who}).json()
        verdicts = {each["id"]: each["verdict"] for each in state["verdicts"]}
        assert [verdicts[each] for each in state["answers"] if each] == [verdict] * (verdict is not None)
