"""A local HTTP server that speaks the Hugging Face hub's protocol, with a second one for large files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import NamedTuple

TOKEN = "hf_secretsecretsecret"  # noqa: S105  (of no account)


class Seen(NamedTuple):
    """A request: method, path, its Range and its Authorization."""

    method: str
    path: str
    range: str
    authorization: str


@dataclass
class Model:
    """A repository: the files of each commit, and which commit a branch or tag names."""

    commits: dict[str, dict[str, bytes]]
    names: dict[str, str]
    gated: bool = False


@dataclass
class FakeHub:
    """The server's state.

    Attributes:
        models: By ORG/NAME.
        seen: All requests.
        break_after: Bytes of a large file after which each connection breaks; one break per entry.
        damaged: Whether large files are sent with another first byte.
        pause: Seconds amid a large file.
    """

    models: dict[str, Model] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    break_after: list[int] = field(default_factory=list)
    damaged: bool = False
    pause: float = 0
    address: str = ""
    store: str = ""  # the address of large files

    def requests(self, part: str) -> list[Seen]:
        """The requests for paths with this part."""
        return [seen for seen in self.seen if part in seen.path]


def commit_of(text: str) -> str:
    """A commit's name."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@contextlib.contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Both servers on free ports of this machine, with an empty hub."""
    hub = FakeHub()
    with contextlib.ExitStack() as stack:
        for kind in ("address", "store"):
            handler = type("Handler", (_Handler,), {"hub": hub, "stores": kind == "store"})
            server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            setattr(hub, kind, f"http://{'localhost' if kind == 'store' else '127.0.0.1'}:{server.server_port}")
        yield hub


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    stores: bool
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        headers = self.headers
        seen = Seen(self.command, self.path, headers.get("Range", ""), headers.get("Authorization", ""))
        self.hub.seen.append(seen)
        path = PurePosixPath(self.path.partition("?")[0])
        if self.stores:
            self._large(path.name)
        elif path.parts[1] == "api":  # /api/models/ORG/NAME[/revision/REVISION]
            self._model(*path.parts[3:5], *path.parts[6:])
        else:  # /ORG/NAME/resolve/REVISION/FILE
            self._model(*path.parts[1:3], path.parts[4], "/".join(path.parts[5:]))

    def _model(self, organisation: str, name: str, revision: str = "main", file: str = "") -> None:
        """The list of files, or a file."""
        model = self.hub.models.get(f"{organisation}/{name}")
        commit = model.names.get(revision, revision) if model else ""
        if model is None:
            self._fail(401, "RepoNotFound")
        elif commit not in model.commits:
            self._fail(404, "RevisionNotFound")
        elif not file:
            listed = [{"rfilename": each} for each in model.commits[commit]]
            facts = {"id": f"{organisation}/{name}", "sha": commit, "siblings": listed}
            self._send(200, json.dumps(facts).encode(), {"Content-Type": "application/json"})
        elif model.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._fail(401, "GatedRepo")
        elif file not in model.commits[commit]:
            self._fail(404, "EntryNotFound", {"X-Repo-Commit": commit})
        else:
            self._file(commit, file, model.commits[commit][file])

    def _file(self, commit: str, name: str, content: bytes) -> None:
        """A small file itself; for a large one, the address where it is."""
        facts = {"X-Repo-Commit": commit}
        if name.endswith((".json", ".txt")):
            etag = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
            return self._send(200, content, {**facts, "ETag": f'"{etag}"'})
        digest = hashlib.sha256(content).hexdigest()
        facts |= {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        return self._send(302, b"", {**facts, "Location": f"{self.hub.store}/{digest}?Signature=signed"})

    def _large(self, digest: str) -> None:
        every = [
            content
            for model in self.hub.models.values()
            for files in model.commits.values()
            for content in files.values()
        ]
        content = next(each for each in every if hashlib.sha256(each).hexdigest() == digest)
        if self.hub.damaged:
            content = bytes([content[0] ^ 1]) + content[1:]
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        facts = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}", "ETag": f'"{digest}"'}
        if not self.hub.break_after or self.command == "HEAD":
            return self._send(206 if start else 200, content[start:], facts if start else {"ETag": f'"{digest}"'})
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + self.hub.break_after.pop(0)])
        self.close_connection = True

    def _fail(self, status: int, code: str, more: dict[str, str] | None = None) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code, **(more or {})})

    def _send(self, status: int, content: bytes, facts: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**facts, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[:-1])
            time.sleep(self.hub.pause if self.stores else 0)
            self.wfile.write(content[-1:])
