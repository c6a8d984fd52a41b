"""The page as a person uses it, in Chromium: every step of it, and what the browser sees meanwhile."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests import ROOT
from tests.terminal import DEFAULT_SIGINT

from .sample_photos import PHOTOS, REAL, SAMPLE, Case, zip_names

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (Debian: apt-get install chromium)")
SLOW_S = 120
expect.set_options(timeout=60_000)  # a machine may be busy with other tests
AXE = Path(sys.prefix) / "axe" / "node_modules" / "axe-core" / "axe.min.js"
SERIOUS = ("serious", "critical")


class Served:
    """The program, started as a user starts it."""

    def __init__(self, folder: Path, case: Case = SAMPLE, *more: str) -> None:
        data = ["--data", "photos", "--weights", case.weights]
        program = [sys.executable, "-c", DEFAULT_SIGINT, str(ROOT / "runner.py")]
        command = [*program, "--serve", *data, *more]
        self.process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://127.0.0.1:"), self.url

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses root otherwise
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def case() -> Case:
    return SAMPLE


@pytest.fixture
def folder(tmp_path: Path, case: Case) -> Path:
    case.write_unsorted(tmp_path / "photos")
    return tmp_path


@pytest.fixture
def served(folder: Path, case: Case) -> Iterator[list[Served]]:
    """The running program, in a list whose last one is the current one."""
    running = [Served(folder, case)]
    yield running
    for each in running:
        each.kill()


class Watch:
    """What a browser's page asked for and complained about."""

    def __init__(self, page: Page) -> None:
        self.urls: list[str] = []
        self.faults: list[str] = []
        page.on("request", lambda request: self.urls.append(request.url))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda message: self.faults.append(message.text) if message.type == "error" else None)


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield page
    context.close()


def photos(page: Page, name: str = "") -> Any:
    """The photos in view; those of a name."""
    return page.locator("#grid").get_by_role("option", name=name)


def ready(page: Page) -> None:
    """Wait until every photo is encoded and classified, and nothing is computed."""
    deadline = time.monotonic() + SLOW_S
    while (state := page.evaluate("() => fetch('/api/state').then((answer) => answer.json())"))["doing"] or state[
        "waiting"
    ]:
        assert time.monotonic() < deadline, state
        time.sleep(0.2)
    time.sleep(0.7)  # the page asks as often


def pick(page: Page, name: str, count: int) -> None:
    """Click on the first photos of a class, by file name."""
    page.locator("#sort").select_option("by name")
    for number in range(1, count + 1):
        photos(page, f"{name}-{number}.jpg").click()
    expect(page.locator("#count")).to_contain_text(f"{count} of")


def assign(page: Page, name: str) -> None:
    page.get_by_label("Assign to").select_option(name)
    page.get_by_role("button", name="Assign", exact=True).click()
    expect(page.locator("#count")).not_to_contain_text("selected")


def count_of(page: Page, name: str) -> Any:
    return page.get_by_role("navigation").get_by_role("button", name=name).locator(".number")


def create(page: Page, case: Case) -> None:
    """With a CLIP predictions come at once."""
    page.get_by_label("New classes").fill(", ".join(case.classes))
    page.get_by_role("button", name="Add", exact=True).first.click()
    if case.reads_names:
        expect(photos(page).first).to_contain_text("%", timeout=SLOW_S * 1000)
    ready(page)


def upload(page: Page, case: Case) -> None:
    """A photo is taken, what is none is refused."""
    page.get_by_text("Add photos").click()
    files: Any = [
        {"name": "new.jpg", "mimeType": "image/jpeg", "buffer": case.further(case.names[0])},
        {"name": "x.jpg", "mimeType": "image/jpeg", "buffer": b"x"},
    ]
    page.get_by_label("Choose photos").set_input_files(files)
    expect(page.get_by_role("alert")).to_contain_text("1 photo refused")
    expect(count_of(page, "All")).to_have_text("19")


def assign_many(page: Page, case: Case) -> None:
    """By clicks, as a range by shift, and by the keyboard."""
    one, two, three = case.names
    pick(page, one, 4)
    assign(page, case.classes[0])
    expect(count_of(page, case.classes[0])).to_have_text("4")
    photos(page, f"{two}-1.jpg").click()
    photos(page, f"{two}-4.jpg").click(modifiers=["Shift"])
    assign(page, case.classes[1])
    expect(count_of(page, case.classes[1])).to_have_text("4")
    photos(page, f"{three}-1.jpg").click()
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
    expect(page.locator("#count")).to_contain_text("4 of")
    page.keyboard.press("3")
    expect(count_of(page, case.classes[2])).to_have_text("4")


def train(page: Page) -> None:
    page.get_by_label("Method").select_option("tip-adapter")
    page.get_by_role("button", name="Train").click()
    expect(gained(page)).to_contain_text("held-out photos", timeout=SLOW_S * 1000)
    expect(gained(page)).to_contain_text("before the training")
    ready(page)


def gained(page: Page) -> Any:
    return page.get_by_label("What the training gained")


def correct(page: Page, case: Case) -> None:
    """To another class, undone; and none of these."""
    photos(page, f"{case.names[0]}-1.jpg").click()
    assign(page, case.classes[2])
    expect(count_of(page, case.classes[2])).to_have_text("5")
    page.get_by_role("button", name="Undo").click()
    expect(count_of(page, case.classes[2])).to_have_text("4")
    photos(page, f"{case.names[0]}-5.jpg").click()
    page.locator("#none").click()
    expect(count_of(page, "None of these")).to_have_text("1")


def download(page: Page, case: Case) -> None:
    page.get_by_text("Download", exact=True).click()
    found = {}
    for name in ("Predictions", "Labels", "Photos sorted", "Trained run"):
        with page.expect_download() as waiting:
            page.get_by_role("link", name=name).click()
        found[name] = Path(waiting.value.path()).read_bytes()
    rows = list(csv.DictReader(found["Predictions"].decode().splitlines()))
    name = case.names[0]
    assert (len(rows), rows[0]["path"]) == (19, f"data/{name}-1.jpg")
    assert {f"{case.classes[0]}/{name}-1.jpg", f"_none of these/{name}-5.jpg"} <= set(zip_names(found["Photos sorted"]))
    assert "run/adapter.safetensors" in zip_names(found["Trained run"])
    assert found["Labels"].decode().count("\n") == 13


@pytest.mark.parametrize(
    "case",
    [
        SAMPLE,
        pytest.param(PHOTOS, marks=pytest.mark.skipif(not REAL, reason="JCLIP_PHOTOS_DIR names no folder of photos")),
    ],
    ids=lambda case: case.weights,
)
def test_what_a_person_does(served: list[Served], folder: Path, page: Page, case: Case) -> None:
    before = {path.name: path.read_bytes() for path in (folder / "photos").iterdir()}
    watch = Watch(page)
    page.goto(served[-1].url)
    create(page, case)
    assert watch.faults == []
    upload(page, case)
    watch.faults.clear()  # of the refused photo
    assign_many(page, case)
    train(page)
    correct(page, case)
    page.reload()
    expect(count_of(page, case.classes[0])).to_have_text("4")
    expect(gained(page)).to_contain_text("held-out photos")
    download(page, case)
    assert watch.faults == []  # nor was the page's own policy ever broken

    # Killed, and started again: labels, training and upload are there.
    served[-1].kill()
    served.append(Served(folder, case))
    page.goto(served[-1].url)
    expect(count_of(page, "All")).to_have_text("19")
    expect(count_of(page, case.classes[0])).to_have_text("4")
    expect(gained(page)).to_contain_text("held-out photos", timeout=SLOW_S * 1000)
    assert {path.name: path.read_bytes() for path in (folder / "photos").iterdir()} == before
    assert len(watch.urls) > 20
    assert [url for url in watch.urls if not url.startswith("http://127.0.0.1:")] == []


def free_port() -> str:
    """A port that no other test's program tries: they begin at the default one, beside this test."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def test_a_tab_of_a_killed_program_says_so(served: list[Served], folder: Path, page: Page) -> None:
    port = free_port()
    served[-1].kill()
    served.append(Served(folder, SAMPLE, "--port", port))
    page.goto(served[-1].url)
    expect(photos(page).first).to_be_visible()
    served[-1].kill()
    expect(page.get_by_role("alert")).to_contain_text("does not answer", timeout=20_000)
    served.append(Served(folder, SAMPLE, "--port", port))
    expect(page.get_by_role("alert")).to_be_hidden(timeout=20_000)
    page.get_by_label("New classes").fill("bear")
    page.get_by_role("button", name="Add", exact=True).first.click()
    expect(page.get_by_role("alert")).to_contain_text("load it again")


def test_hostile_names_are_shown_as_text(served: list[Served], page: Page) -> None:
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.goto(served[-1].url)
    ready(page)
    hostile = "<img src=x onerror=alert(1)>"
    page.get_by_label("New classes").fill("'quoted', bear & {{7-7}}")
    page.get_by_role("button", name="Add", exact=True).first.click()
    expect(page.get_by_role("button", name="bear & {{7-7}}")).to_be_visible()
    photo = {"name": f"{hostile}.jpg", "mimeType": "image/jpeg", "buffer": SAMPLE.further("Bear")}
    page.get_by_text("Add photos").click()
    page.get_by_label("Choose photos").set_input_files([photo])
    expect(count_of(page, "All")).to_have_text("19")
    assert page.locator("img[onerror]").count() == 0


def test_only_the_photos_in_view_are_in_the_document(served: list[Served], folder: Path, page: Page) -> None:
    served[-1].kill()
    data = SAMPLE.further("Bear")
    for number in range(400):
        (folder / "photos" / f"more-{number}.jpg").write_bytes(data)
    served.append(Served(folder))
    page.goto(served[-1].url)
    expect(count_of(page, "All")).to_have_text("418")
    expect(photos(page).first).to_be_visible()
    assert 5 < photos(page).count() < 80
    page.locator("#grid").focus()
    page.keyboard.press("End")
    expect(photos(page, "more-399.jpg")).to_be_visible()
    page.keyboard.press("Control+a")
    expect(page.locator("#count")).to_contain_text("418 of 418")


@pytest.mark.skipif(not AXE.is_file(), reason="there is no axe-core (make test fetches it where npm is installed)")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_accessibility(served: list[Served], page: Page, scheme: Any, size: tuple[int, int]) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.goto(served[-1].url)
    page.get_by_label("New classes").fill(", ".join(SAMPLE.classes))
    page.get_by_role("button", name="Add", exact=True).first.click()
    ready(page)
    for name in ("Add photos", "Download", "Keys"):
        page.get_by_text(name, exact=True).click()
    photos(page).first.click()
    page.evaluate(f"() => {{ {AXE.read_text('utf-8')} }}")
    found = page.evaluate("() => axe.run()")
    faults = [
        (each["id"], [node["html"][:200] for node in each["nodes"]])
        for each in found["violations"]
        if each["impact"] in SERIOUS
    ]
    assert faults == []
    assert len(found["passes"]) > 15


def test_ctrl_c_ends_it(served: list[Served], folder: Path) -> None:
    served[-1].process.send_signal(signal.SIGINT)
    assert served[-1].process.wait(20) == 130
    log = (folder / "results" / "projects" / "photos" / "changes.jsonl").read_text()
    assert [json.loads(line) for line in log.splitlines()] == []
