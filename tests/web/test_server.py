"""The page's server under attack: each test is a row of SECURITY.md's table of attacks on the page."""

from __future__ import annotations

import io
import socket
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jclip_adapter.core.errors import UsageError
from jclip_adapter.data.sets import PHOTO_SUFFIXES
from jclip_adapter.web import server
from jclip_adapter.web.guard import COOKIE, CSRF
from jclip_adapter.web.server import listen, safe_name

from .conftest import Browser, Opener, work
from .sample_photos import PER_CLASS, SAMPLE

PATHS = (
    "/",
    "/api/state",
    "/api/order",
    "/api/photos?ids=0",
    "/photo/0/small",
    "/download/labels.csv",
    "/static/page.js",
)
CHANGES = {
    "classes": {"names": "cat"},
    "label": {"photos": [0], "to": "none"},
    "remove": {"class": "cat"},
    "undo": {},
    "train": {"method": "auto"},
    "folder": {"path": "/"},
}


def log_of(browser: Browser) -> bytes:
    """All changes so far."""
    return (browser.session.project.folder / "changes.jsonl").read_bytes()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host", ["evil.com", "127.0.0.1.evil.com", "localhost.evil.com:8000", "192.168.1.2", "", "[::2]"]
)
def test_dns_rebinding(browser: Browser, path: str, host: str) -> None:
    """A site whose name was made to lead here sends its own name."""
    answer = browser.get(path, headers={"host": host})
    assert answer.status_code == 403
    assert "csrf" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:9", "LOCALHOST:8000", "[::1]:8000", "127.0.0.1"])
def test_own_names_are_answered(browser: Browser, host: str) -> None:
    assert browser.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize(
    "headers",
    [
        {CSRF: ""},
        {CSRF: "x" * 43},
        {"origin": "http://evil.com"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:8001"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"host": "evil.com", "origin": "http://evil.com"},
    ],
)
def test_another_site_changes_nothing(browser: Browser, name: str, headers: dict[str, str]) -> None:
    before = log_of(browser)
    assert browser.post(name, CHANGES[name], **headers).status_code == 403
    assert log_of(browser) == before


@pytest.mark.parametrize("path", [path for path in PATHS if path != "/"])
def test_another_site_embeds_nothing(browser: Browser, path: str) -> None:
    assert browser.get(path, headers={"sec-fetch-site": "cross-site"}).status_code == 403


def test_a_get_changes_nothing(browser: Browser) -> None:
    before = log_of(browser)
    for name in (*CHANGES, "upload"):
        assert browser.get(f"/api/{name}", headers=browser.headers).status_code in (404, 405)
    assert log_of(browser) == before


@pytest.mark.parametrize("path", [*PATHS, "/nothing", "/photo/0/raw"])
def test_headers_of_every_answer(browser: Browser, path: str) -> None:
    headers = browser.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/..%2fserver.py",
        "/static/%2fetc/passwd",
        "/static//etc/passwd",
        "/photo/..%2f..%2fsecret/small",
        "/photo/0/..%2f..%2fsecret",
        "/photo/-1/small",
        "/photo/99999/small",
        "/photo/1e3/small",
        "/download/..%2fchanges.jsonl",
        "/download/changes.jsonl",
        "/download/%2fetc%2fpasswd",
    ],
)
def test_no_path_leads_elsewhere(browser: Browser, path: str) -> None:
    assert browser.get(path).status_code == 404


def test_links_out_of_the_data_folder_are_refused(open_page: Opener, tmp_path: Path) -> None:
    from jclip_adapter.core.errors import DataError

    (tmp_path / "secret.jpg").write_bytes(SAMPLE.further("Bear"))
    Path("photos/link.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(DataError, match="leads out of the data folder"):
        open_page()
    assert len(open_page(follow_links=True).library.items) == 19


def test_a_folder_with_such_links_is_refused(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "link.jpg").symlink_to(tmp_path / "photos" / "Bear-1.jpg")
    answer = browser.post("folder", {"path": str(tmp_path / "more")})
    assert "leads out of" in answer.json()["error"]
    assert len(browser.session.library.items) == 18


@pytest.mark.parametrize("path", ["", "photos", "/nowhere", "/etc/passwd", "~no-such-user/x", "\0", 3, None])
def test_folders_that_are_refused(browser: Browser, path: object) -> None:
    assert browser.post("folder", {"path": path}).status_code == 400


@pytest.mark.parametrize(
    "name", ["a.html", "a.svg", "a.php", "a", "", ".jpg/..", "a.jpg.exe", "a.jpg\0.html", "../../x", "a.py"]
)
def test_names_that_are_no_photos(browser: Browser, name: str) -> None:
    assert browser.upload(name, SAMPLE.further("Bear")).status_code == 400
    assert not (browser.session.project.folder / "uploads").exists()


@given(st.text(max_size=80), st.sampled_from(sorted(PHOTO_SUFFIXES)))
def test_a_kept_name_is_a_plain_one(stem: str, suffix: str) -> None:
    name = safe_name(stem + suffix)
    assert Path(name).name == name
    assert not name.startswith(".")
    assert name.isprintable()
    assert len(name) <= 70
    assert not set(name) & set("/\\:*?\"'<>|&;`$")
    assert Path(name).suffix in PHOTO_SUFFIXES


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../../etc/passwd.jpg", "passwd.jpg"),
        ("C:\\Windows\\my cat.JPG", "my cat.jpg"),
        ("<img onerror=alert(1)>.png", "_img onerror_alert(1)_.png"),
        ("\u202egpj.exe.jpg", "_gpj_exe.jpg"),
        ("....jpg", "___.jpg"),
    ],
)
def test_hostile_names_of_uploads(browser: Browser, name: str, kept: str) -> None:
    before = set(Path.cwd().rglob("*"))
    assert browser.upload(name, SAMPLE.further("Bear")).status_code == 200
    fresh = {path.relative_to(Path.cwd()).as_posix() for path in set(Path.cwd().rglob("*")) - before}
    assert fresh == {"results/projects/photos/uploads", f"results/projects/photos/uploads/{kept}"}


def huge_png() -> bytes:
    """A PNG that would be decoded to 30,000 × 30,000 pixels."""
    buffer = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html><script>alert(1)</script>",
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"\xff\xd8\xff\xe0" + b"\0" * 100,
        b"#!/bin/sh\nrm -rf /\n",
        b"PK\x03\x04" + b"\0" * 100,
    ],
)
def test_bytes_that_are_no_photo(browser: Browser, data: bytes) -> None:
    assert browser.upload("a.jpg", data).status_code == 400
    assert not (browser.session.project.folder / "uploads").exists()


def test_a_bomb_is_refused(browser: Browser) -> None:
    assert browser.upload("a.png", huge_png()).status_code == 400
    assert not (browser.session.project.folder / "uploads").exists()


def test_limits_of_uploads(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = SAMPLE.photos("Bear")[PER_CLASS : PER_CLASS + 2]
    monkeypatch.setattr(server, "MOST_BYTES", 1000)
    assert "at most" in browser.upload("a.jpg", first).json()["error"]
    monkeypatch.undo()
    monkeypatch.setattr(server, "MOST_UPLOADS", 1)
    assert browser.upload("a.jpg", first).status_code == 200
    assert "uploaded photos" in browser.upload("b.jpg", second).json()["error"]


def test_an_upload_replaces_no_other(browser: Browser) -> None:
    first, second = SAMPLE.photos("Bear")[PER_CLASS : PER_CLASS + 2]
    numbers = [browser.upload("a.jpg", data).json()["id"] for data in (first, second, first)]
    assert numbers[0] == numbers[2] != numbers[1]
    folder = browser.session.project.folder / "uploads"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a.jpg": first, "a-2.jpg": second}


def test_a_file_with_a_page_behind_its_photo_is_never_sent_as_it_is(browser: Browser) -> None:
    """A photo that is also a page: browsers get a picture made of its pixels."""
    data = SAMPLE.further("Bear") + b"<script>alert(1)</script>"
    number = browser.upload("a.jpg", data).json()["id"]
    for size in ("small", "large"):
        answer = browser.get(f"/photo/{number}/{size}")
        assert answer.headers["content-type"] == "image/jpeg"
        assert b"script" not in answer.content
        with Image.open(io.BytesIO(answer.content)) as picture:
            assert picture.format == "JPEG"


@pytest.mark.parametrize(
    "value", [[], "x", 3, {"photos": [0]}, {"photos": "0", "to": "none"}, {"photos": [True], "to": "none"}]
)
def test_malformed_requests(browser: Browser, value: object) -> None:
    assert browser.post("label", value).status_code == 400


@pytest.mark.parametrize("numbers", [[], [-1], [18], ["0"], [0.5], [None], [10**30]])
def test_photos_that_do_not_exist(browser: Browser, numbers: list[object]) -> None:
    before = log_of(browser)
    assert browser.post("label", {"photos": numbers, "to": "none"}).status_code == 400
    assert log_of(browser) == before


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[" * 100_000, b""])
def test_bodies_that_are_no_json(browser: Browser, data: bytes) -> None:
    headers = {**browser.headers, "content-type": "application/json"}
    assert browser.client.post("/api/undo", content=data, headers=headers).status_code == 400


def test_names_are_text_not_markup(browser: Browser) -> None:
    """Class names come back as JSON; the page puts text into the document, never markup."""
    browser.done("classes", names="&lt b, cat,")
    answer = browser.get("/api/state")
    assert [each["name"] for each in answer.json()["classes"]] == ["&lt b", "cat"]
    assert answer.headers["content-type"] == "application/json"
    script = (server.STATIC / "page.js").read_text()
    assert not any(
        word in script for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(")
    )


def test_nothing_comes_from_the_internet() -> None:
    for path in server.STATIC.iterdir():
        text = path.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert "http://" not in text
        assert "https://" not in text


def test_a_zip_leads_nowhere_else(browser: Browser) -> None:
    browser.done("classes", names="cat, dog")
    browser.done("label", photos=list(range(18)), to="class", **{"class": "cat"})
    with zipfile.ZipFile(io.BytesIO(browser.get("/download/sorted.zip").content)) as archive:
        for entry in archive.infolist():
            assert not entry.filename.startswith("/")
            assert ".." not in entry.filename.split("/")
            assert entry.external_attr >> 16 & 0o111 == 0


def test_another_address_needs_the_token(open_page: Opener) -> None:
    session = open_page()
    work(session)
    browser = Browser(session, "0.0.0.0", "secret")  # noqa: S104  (nothing listens)
    assert browser.get("/").status_code == 200
    assert browser.get("/", headers={"host": "192.168.1.2:8000"}).status_code == 200
    assert browser.get("/", headers={"host": "evil.com"}).status_code == 403
    assert "only on the machine" in browser.post("folder", {"path": "/"}).json()["error"]
    browser.client.cookies.clear()
    for path in PATHS:
        assert browser.get(path).status_code == 403
    for wrong in ("/?token=", "/?token=wrong", "/api/state?token=secret", "/?token=secre%ff"):
        assert browser.get(wrong).status_code == 403
    assert browser.post("undo", {}).status_code == 403
    answer = browser.get("/?token=secret")
    cookie = answer.headers["set-cookie"].lower()
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert cookie.startswith(COOKIE)
    assert {"httponly", "samesite=strict"} <= {part.strip() for part in cookie.split(";")}


def test_a_token_of_an_earlier_start_changes_nothing(browser: Browser) -> None:
    later = Browser(browser.session)
    assert browser.headers != later.headers
    assert later.post("classes", {"names": "cat"}, **browser.headers).status_code == 403


def test_a_busy_port() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port}"):
            listen("127.0.0.1", port, fixed=True)
        with listen("127.0.0.1", port, fixed=False) as other:
            assert other.getsockname()[1] > port
    with pytest.raises(UsageError, match="cannot listen"):
        listen("192.0.2.1", 8000, fixed=True)
