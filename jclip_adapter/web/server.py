"""The local page: routes, uploads, and the loop that computes while it is served."""

from __future__ import annotations

import functools
import json
import os
import re
import secrets
import socket
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from jclip_adapter.core.errors import AdapterError, PhotoError, SetupError, UsageError
from jclip_adapter.data.photos.decode import open_image
from jclip_adapter.data.photos.decoders import cores
from jclip_adapter.data.photos.reading import AS_SEEN, Reading
from jclip_adapter.data.sets import PHOTO_SUFFIXES
from jclip_adapter.storage import write_bytes

from . import view
from .downloads import predictions_file, result_zip, run_files, sorted_files, zip_of
from .guard import Guard, is_loopback
from .library import Item, folder_items
from .project import UPLOADS
from .session import Session
from .thumbnails import kept_thumbnail

STATIC = Path(__file__).parent / "static"
MOST_BYTES = 64_000_000
"""Of one uploaded photo."""
MOST_UPLOADS = 20_000
"""Uploaded photos of a project."""
MOST_DETAILS = 500
_MOST_JSON = 32_000_000  # the labels of a million photos
_SMALL, _LARGE = 224, 1280  # sides of pictures in pixels
_TRIES = 20
_TOKEN = "CSRF_TOKEN"  # noqa: S105  (where index.html gets it)


class Page:
    """The ASGI application of a session.

    Args:
        session: The session.
        host: The address that is listened on.
        access: The access token; empty where only this machine can connect.
        reading: How photo files are read.

    Attributes:
        app: The application.
    """

    def __init__(self, session: Session, host: str, access: str = "", reading: Reading = AS_SEEN) -> None:
        self._session, self._reading = session, reading
        self._local = is_loopback(host)
        self._csrf, self._start = secrets.token_urlsafe(32), secrets.token_hex(4)
        self._decoding = threading.Semaphore(cores())
        self._adding = threading.Lock()
        get = functools.partial(Route, methods=["GET"])
        routes = [
            get("/", self._index),
            get("/api/state", self._state),
            get("/api/order", self._order),
            get("/api/photos", self._photos),
            get("/photo/{number:int}/{size}", self._picture),
            get("/download/{name}", self._download),
            *(Route(f"/api/{name}", self._post(action), methods=["POST"]) for name, action in self._actions().items()),
            Route("/api/upload", self._upload, methods=["POST"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
        inner = Starlette(routes=routes, exception_handlers={AdapterError: _as_json})
        self.app = Guard(inner, host, self._csrf, access)

    def _index(self, _: Request) -> Response:
        return HTMLResponse((STATIC / "index.html").read_text("utf-8").replace(_TOKEN, self._csrf))

    def _state(self, _: Request) -> Response:
        return JSONResponse({**view.state(self._session), "local": self._local, "start": self._start})

    def _order(self, request: Request) -> Response:
        query = request.query_params
        return JSONResponse(view.order(self._session, query.get("show", "all"), query.get("sort", "uncertain")))

    def _photos(self, request: Request) -> Response:
        numbers = [
            int(word) for word in request.query_params.get("ids", "").split(",") if re.fullmatch(r"\d{1,9}", word)
        ]
        return JSONResponse(view.details(self._session, numbers[:MOST_DETAILS]))

    def _picture(self, request: Request) -> Response:
        """A photo, decoded and encoded again: never the bytes of its file."""
        number, size = request.path_params["number"], request.path_params["size"]
        items = self._session.library.items
        if number >= len(items) or size not in ("small", "large"):
            return Response(status_code=404)
        side = _SMALL if size == "small" else _LARGE
        try:
            with self._decoding:
                data = kept_thumbnail(items[number].path, side, self._reading, self._session.project.folder)
        except (PhotoError, OSError):
            return Response(status_code=404)
        return Response(data, media_type="image/jpeg", headers={"cache-control": "private, max-age=86400"})

    def _download(self, request: Request) -> Response:
        name, session = request.path_params["name"], self._session
        if name in ("run.zip", "sorted.zip"):
            files = run_files(session) if name == "run.zip" else sorted_files(session)
            headers = {"content-disposition": f'attachment; filename="{name}"'}
            return StreamingResponse(zip_of(files), media_type="application/zip", headers=headers)
        made: dict[str, Callable[[], Path]] = {
            "predictions.csv": lambda: predictions_file(session),
            "labels.csv": lambda: session.project.labels_file,
            "result.zip": lambda: result_zip(session),
        }
        if name not in made:
            return Response(status_code=404)
        return FileResponse(made[name](), filename=name)

    def _post(self, action: Callable[[dict[str, Any]], str]) -> Callable[[Request], Any]:
        """An endpoint that takes a JSON object and answers with a message."""

        async def answer(request: Request) -> Response:
            try:
                value = json.loads(await _body(request, _MOST_JSON))
            except (ValueError, RecursionError):
                raise UsageError("expected JSON.") from None
            if not isinstance(value, dict):
                raise UsageError("expected a JSON object.")
            return JSONResponse({"message": await run_in_threadpool(self._act, action, value)})

        return answer

    def _act(self, action: Callable[[dict[str, Any]], str], value: dict[str, Any]) -> str:
        with self._session.lock:
            text = action(value)
        self._session.changed()
        return text

    def _actions(self) -> dict[str, Callable[[dict[str, Any]], str]]:
        project = self._session.project

        def labelled(value: dict[str, Any]) -> str:
            names = self._names(value)
            target = value.get("to")
            if target == "class":
                project.assign(names, _text(value, "class"))
            elif target in ("none", "clear"):
                (project.none_of_these if target == "none" else project.clear)(names)
            else:
                raise UsageError("'to' must be class, none or clear.")
            return project.last

        def classes(value: dict[str, Any]) -> str:
            names = re.split(r"[,;\n]", _text(value, "names"))
            project.add_classes(name for name in names if name.strip())
            return project.last

        def remove(value: dict[str, Any]) -> str:
            project.remove_class(_text(value, "class"))
            return project.last

        def train(value: dict[str, Any]) -> str:
            self._session.train(_text(value, "method"))
            return ""

        return {
            "label": labelled,
            "classes": classes,
            "remove": remove,
            "undo": lambda _: f"undone: {project.undo()}",
            "train": train,
            "folder": self._folder,
        }

    def _names(self, value: dict[str, Any]) -> list[str]:
        """Names of the photos that a request numbers."""
        numbers, items = value.get("photos"), self._session.library.items
        if not isinstance(numbers, list) or not numbers:
            raise UsageError("no photo is selected.")
        if not all(type(number) is int and 0 <= number < len(items) for number in numbers):
            raise UsageError("there is no such photo.")
        if any(items[number].test for number in numbers):
            raise UsageError("test photos are classified, not labelled.", "Deselect them.")
        return [items[number].name for number in numbers]

    def _folder(self, value: dict[str, Any]) -> str:
        """Add the photos of a folder on this machine."""
        if not self._local:
            raise UsageError("folders can be named only on the machine that runs the program.")
        path = Path(os.path.expanduser(_text(value, "path")))  # noqa: PTH111  (pathlib's raises for unknown users)
        if not path.is_absolute() or not path.is_dir():
            raise UsageError(f"there is no folder {path}.", "Give its whole path.")
        items = folder_items(self._session.project.add_folder(path), path)
        added = self._session.library.add(items)
        return f"{len(added)} photos added"

    async def _upload(self, request: Request) -> Response:
        """Take a photo: the body is its bytes, `name` in the address its file's name."""
        name = safe_name(request.query_params.get("name", ""))
        data = await _body(request, MOST_BYTES)
        return JSONResponse({"id": await run_in_threadpool(self._keep, name, data)})

    def _keep(self, name: str, data: bytes) -> int:
        with self._decoding:
            open_image(data, name, self._reading)
        library, folder = self._session.library, self._session.project.folder / UPLOADS
        with self._adding:
            if sum(item.name.startswith(f"{UPLOADS}/") for item in library.items) >= MOST_UPLOADS:
                raise UsageError(f"a project takes {MOST_UPLOADS:,} uploaded photos.", "Give them as a folder.")
            path, count = folder / name, 1
            while path.exists() and path.read_bytes() != data:
                count += 1
                path = folder / f"{Path(name).stem}-{count}{Path(name).suffix}"
            if not path.exists():
                write_bytes(path, data)
            item = Item(f"{UPLOADS}/{path.name}", path)
            with self._session.lock:
                library.add([item])
                number = library.numbers[item.name]
        self._session.changed()
        return number


def _text(value: dict[str, Any], key: str) -> str:
    text = value.get(key)
    if not isinstance(text, str):
        raise UsageError(f"expected a text as '{key}'.")
    return text


async def _body(request: Request, most: int) -> bytes:
    """The body of a request; UsageError if it is too long, without reading the rest."""
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise UsageError(f"expected at most {most // 1_000_000} MB.")
            parts.append(part)
    except ClientDisconnect:
        raise UsageError("the connection ended before the request did.") from None
    return b"".join(parts)


def _as_json(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 507 if isinstance(error, SetupError) else 400)


def safe_name(name: str) -> str:
    r"""The name that an uploaded file is kept under.

    Args:
        name: The name that the browser gave, which may hold anything.

    Raises:
        UsageError: it has no suffix of a photo.

    >>> safe_name("..\\..//my <cat>.JPG"), safe_name("猫.png")
    ('my _cat_.jpg', '猫.png')
    """
    last = unicodedata.normalize("NFC", re.split(r"[/\\]", name)[-1])
    stem, _, suffix = last.rpartition(".")
    if f".{suffix.lower()}" not in PHOTO_SUFFIXES:
        raise UsageError(f"'{last[:60]}' is not a photo, by its name.")
    plain = re.sub(r"[^\w\- ()]", "_", stem).strip()[:60]
    return f"{plain or 'photo'}.{suffix.lower()}"


def listen(host: str, port: int, *, fixed: bool) -> socket.socket:
    """A socket that listens.

    Args:
        host: The address.
        port: The port.
        fixed: Whether the next ports are not tried when this one is in use.

    Raises:
        UsageError: the address or the port cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    error = OSError()
    for number in range(port, min(65535, port if fixed else port + _TRIES) + 1):
        found = socket.socket(family)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, number))
            found.listen()
            return found
        except OSError as reason:
            found.close()
            error = reason
    raise UsageError(f"cannot listen on {host}, port {port}: {error.strerror or error}.", "Give another --port.")


@contextmanager
def serving(page: Page, at: socket.socket) -> Iterator[None]:
    """Serve the page in a thread within this block."""
    config = uvicorn.Config(
        page.app, log_config=None, log_level="warning", access_log=False, lifespan="off", ws="none", http="h11"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [at]}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(2)


def compute(session: Session) -> None:
    """Compute what the page asks for, in this thread, until Ctrl-C."""
    while True:
        while session.step():
            pass
        session.wait()
