"""The server of the review page, on this machine alone."""

from __future__ import annotations

import contextlib
import json
import mimetypes
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import resources

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pipeline.review.guard import Address, Guard
from pipeline.review.judgement import BadJudgement
from pipeline.review.session import ReviewSession, VideoChanged

# What browsers play, under the names by which they know it.
_VIDEO_TYPES = {".mov": "video/mp4", ".m4v": "video/mp4", ".mkv": "video/webm"}


class CannotServe(Exception):
    """The address that was asked for cannot be served."""


def make_app(session: ReviewSession, address: Address) -> ASGIApp:
    """The page of a session. Files are found by what the session lists, never by a path that a request names."""

    async def state(request: Request) -> Response:
        who = request.query_params.get("who") or session.who
        return JSONResponse(await run_in_threadpool(session.whole, who))

    async def judge(request: Request) -> Response:
        try:
            return JSONResponse(await run_in_threadpool(session.judge, json.loads(await request.body())))
        except (ValueError, BadJudgement) as error:
            raise HTTPException(400, str(error)) from error
        except OSError as error:
            raise HTTPException(507, f"it cannot be written, {error.strerror}") from error

    async def video(request: Request) -> Response:
        try:
            path = await run_in_threadpool(session.video, request.path_params["recording"])
        except VideoChanged as error:
            raise HTTPException(409, str(error)) from error
        if path is None:
            raise HTTPException(404, "no such video")
        kind = _VIDEO_TYPES.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0] or "video/mp4"
        return FileResponse(path, media_type=kind)

    async def picture(request: Request) -> Response:
        path = session.picture(request.path_params["recording"], request.path_params["at_ms"])
        if path is None:
            raise HTTPException(404, "no such picture")
        return FileResponse(path, media_type="image/jpeg")

    async def told(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(session.close)

    routes = [
        Route("/", _page("review.html", "text/html")),
        Route("/review.js", _page("review.js", "text/javascript")),
        Route("/review.css", _page("review.css", "text/css")),
        Route("/review.svg", _page("review.svg", "image/svg+xml")),
        Route("/session", state),
        Route("/corrections", judge, methods=["POST"]),
        Route("/video/{recording}", video),
        Route("/picture/{recording}/{at_ms:int}", picture),
    ]
    return Guard(Starlette(routes=routes, exception_handlers={HTTPException: told}, lifespan=lifespan), address)


def _page(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    content = resources.files("pipeline.review").joinpath("page", name).read_bytes()

    async def page(_: Request) -> Response:
        return Response(content, media_type=kind)

    return page


def serve(session: ReviewSession, *, host: str, port: int, on_start: Callable[[Address], None]) -> None:
    """Serve the page until the process is interrupted; a `port` of 0 is any that is free. Raises `CannotServe`."""
    host = host.lower()  # as browsers name it
    if host in ("", "0.0.0.0", "::"):
        raise CannotServe(f"{host!r} is every address of this machine: name one, such as 192.168.1.20")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise CannotServe(
                f"{host}, port {port or 'any'} cannot be served ({error.strerror or error}): "
                "--host is an address of this machine, such as 192.168.1.20, and --port a free one"
            ) from error
        listener.listen()
        address = Address(host, listener.getsockname()[1], secrets.token_urlsafe(24))
        # Its access log would have the token in each line.
        config = uvicorn.Config(
            make_app(session, address),
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=3,
        )
        on_start(address)
        with contextlib.suppress(KeyboardInterrupt):  # it is how a review ends
            uvicorn.Server(config).run(sockets=[listener])
