"""A session of the page on a few photos of the sample."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jclip_adapter.cli.commands.serve import open_session
from jclip_adapter.cli.settings import build_settings
from jclip_adapter.web.guard import CSRF
from jclip_adapter.web.server import Page
from jclip_adapter.web.session import Session

from .sample_photos import SAMPLE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the newest Starlette prefers another client, the oldest knows this one only
    from starlette.testclient import TestClient

HOME = "http://127.0.0.1:8000"


def work(session: Session) -> None:
    """Compute until nothing is left to do."""
    while session.step():
        pass


class Browser:
    """A client that sends what the page would."""

    def __init__(self, session: Session, host: str = "127.0.0.1", access: str = "") -> None:
        self.session = session
        self.client = TestClient(Page(session, host, access).app, HOME, follow_redirects=False)
        page = self.client.get("/" if not access else f"/?token={access}")
        page = self.client.get("/") if access else page
        self.headers = {CSRF: page.text.split('name="csrf-token" content="')[1].split('"')[0]}

    def get(self, path: str, **more: Any) -> Any:
        return self.client.get(path, **more)

    def json(self, path: str, **query: Any) -> Any:
        answer = self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, value: Any, **headers: str) -> Any:
        return self.client.post(f"/api/{path}", json=value, headers={**self.headers, **headers})

    def done(self, path: str, /, **value: Any) -> str:
        answer = self.post(path, value)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["message"])

    def upload(self, name: str, data: bytes) -> Any:
        headers = {**self.headers, "content-type": "application/octet-stream"}
        return self.client.post("/api/upload", params={"name": name}, content=data, headers=headers)

    def numbers(self, start: str) -> list[int]:
        """Numbers of the photos whose names begin so."""
        return [n for n, item in enumerate(self.session.library.items) if item.path.name.startswith(start)]


@pytest.fixture(scope="session")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with unsorted photos whose features are in the store; for copying."""
    root = tmp_path_factory.mktemp("page")
    SAMPLE.write_unsorted(root / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        session, project = open_session(build_settings({"data": "photos", "weights": "sample"}, "", ("--serve",)))
        work(session)
        project.close()
        shutil.rmtree("results/projects")
    return root


Opener = Callable[..., Session]


@pytest.fixture
def open_page(tmp_path: Path, encoded: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opener]:
    """Opens sessions in a working directory of its own; a second one closes the first."""
    shutil.copytree(encoded, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    projects: list[Any] = []

    def open_it(**flags: Any) -> Session:
        for project in projects:
            project.close()
        projects.clear()
        given = {"data": "photos", "weights": "sample", **flags}
        session, project = open_session(build_settings(given, "", ("--serve",)))
        projects.append(project)
        return session

    yield open_it
    for project in projects:
        project.close()


@pytest.fixture
def browser(open_page: Opener) -> Browser:
    """The page on unsorted photos, all encoded."""
    session = open_page()
    work(session)
    return Browser(session)
