"""Measure the local page in Chromium, and take its pictures: results/page.csv and .md, and results/page/*.jpg.

    python -m benchmarks.page
    python -m benchmarks.page --data PHOTOS --weights efficientnet-lite0 --pictures OTHER_FOLDER

The figures are of 1,000 generated photos of 50 classes, all labelled, and of 50,000, of which 20 per class are. Their
features are random points around the classes' and are written to the store, as a machine that has encoded them has it.
The pictures show a data set, at three sizes, in light and dark.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from benchmarks import ROOT, reports_user_errors
from benchmarks.results import write_results
from jclip_adapter.core.choices import SAMPLE
from jclip_adapter.core.errors import SetupError
from jclip_adapter.core.task import normalise
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.features.encoding import image_store
from jclip_adapter.models.clip.encoder import load_encoder
from jclip_adapter.storage import ANY, write_bytes, write_text

RESULTS = ROOT / "results" / "page"
PHOTOS, FEW, CLASSES, SHOTS = 50_000, 1_000, 50, 20
METHODS = ("auto", "tip-adapter", "gda")
SHARD = 128
SIZES = {"phone": (390, 844), "tablet": (820, 1180), "desktop": (1440, 900)}
COLUMNS = ("photos", "what", "seconds")
PATIENCE_MS = 600_000
_TEXT = """# The local page, measured

`python -m benchmarks.page` measured this on {cores} cores, whose load was {load:.1f} meanwhile, in Chromium, with
generated photos of {classes} classes and {shots} labelled photos per class. Features of width {width} are in the store.
The largest process took {memory} MB.

{table}
"""


def generate(folder: Path, cache: Path, photos: int) -> int:
    """Draw photos, write their features into the sample's store, and list SHOTS per class as labelled in photos.csv.

    Returns:
        Width of the features.
    """
    rng = np.random.default_rng(0)
    encoder = load_encoder(SAMPLE, "cpu", 0, cache)
    store = image_store(encoder, cache)
    centres = rng.normal(size=(CLASSES, encoder.width))
    keys: list[bytes] = []
    rows, lines = [], ["path,label,split"]
    for number in range(photos):
        label = number % CLASSES
        pixels = np.kron(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), np.ones((16, 16, 1), dtype=np.uint8))
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=60)
        name = f"{number // 1000:02}/{number:05}.jpg"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(buffer.getvalue())  # without flushing 50,000 files to disk
        keys.append(hashlib.sha256(buffer.getvalue()).digest())
        rows.append(centres[label] + 3 * rng.normal(size=encoder.width))
        lines.append(f"{name},class {label:02},{'train' if number < CLASSES * SHOTS else 'test'}")
    features = normalise(np.array(rows, dtype=np.float32))
    for first in range(0, photos, SHARD):
        store.add(keys[first : first + SHARD], features[first : first + SHARD])
    write_text(folder / "photos.csv", "\n".join([*lines, ""]), ANY)
    return encoder.width


@contextmanager
def served(folder: Path, *arguments: str) -> Iterator[tuple[str, float]]:
    """The program's page within this block: its address, and seconds until it was printed."""
    start = time.perf_counter()
    command = [sys.executable, str(ROOT / "runner.py"), "--serve", *arguments]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101  (for the type checker)
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise SetupError("the page did not start.", "Its error is above.")
            yield url, time.perf_counter() - start
        finally:
            process.terminate()


@contextmanager
def browser_page() -> Iterator[Page]:
    """A page of Chromium."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        raise SetupError("there is no Chromium.", "Debian: apt-get install chromium.")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses root otherwise
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=found, args=arguments)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        yield page
        browser.close()


def seconds(act: Callable[[], object]) -> float:
    """Seconds that an action takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def settle(page: Page) -> None:
    """Wait until the program computes nothing."""
    asks = "() => fetch('/api/state').then((answer) => answer.json())"
    while (state := page.evaluate(asks))["doing"] or state["waiting"]:
        time.sleep(0.3)


def first_screen(page: Page, url: str) -> None:
    """Open the page, until the photos in view, their pictures and their predictions are there."""
    page.goto(url)
    cells = page.locator("#grid").get_by_role("option")
    expect(cells.first).to_contain_text("%")
    for picture in cells.locator("img").all()[:20]:
        while not picture.evaluate("(image) => image.complete && image.naturalWidth > 0"):
            time.sleep(0.01)


def train(page: Page, method: str) -> tuple[float, float]:
    """Train; returns seconds until the predictions are new, and until the accuracy is there."""
    page.get_by_label("Method").select_option(method)
    settle(page)
    report = page.get_by_label("What the training gained")
    start = time.perf_counter()
    page.get_by_role("button", name="Train").click()
    asks = "() => fetch('/api/state').then((answer) => answer.json())"
    trained = 0.0
    while True:
        state = page.evaluate(asks)
        if not trained and state["report"].get("method") == method and state["doing"].startswith("estimating"):
            trained = time.perf_counter() - start
        if trained and state["report"].get("after") and not state["doing"]:
            break
        time.sleep(0.03)
    expect(report).to_contain_text(method)
    return trained, time.perf_counter() - start


def measure(folder: Path, photos: int) -> tuple[dict[str, float], int]:
    """Seconds by what took them, of generated photos; and the width of their features."""
    width = generate(folder / "photos", folder / "cache", photos)
    arguments = ("--data", "photos", "--weights", SAMPLE, "--cache", "cache")
    found: dict[str, float] = {}
    with browser_page() as page:
        with served(folder, *arguments) as (url, started):
            found["start of the program, the first time"] = started
            page.goto(url)
            found["reading and classifying all, the first time"] = seconds(lambda: settle(page))
            found["the first training, until all predictions are new"], _ = train(page, METHODS[0])
            for method in METHODS:
                found[f"training by {method}, until all predictions are new"], whole = train(page, method)
                found[f"training by {method}, until its accuracy is there"] = whole
        with served(folder, *arguments) as (url, started):
            found["start of the program again"] = started
            page.goto(url)
            found["taking up the last training"] = seconds(lambda: settle(page))
            found["first screen"] = seconds(lambda: first_screen(page, url))
            page.locator("#grid").focus()

            def to_the_end() -> None:
                page.keyboard.press("End")
                expect(page.locator("#grid .cell.current")).to_contain_text("%")

            found["to the last photo"] = seconds(to_the_end)

            def sort() -> None:
                with page.expect_response(lambda answer: "/api/order" in answer.url):
                    page.locator("#sort").select_option("by class")
                expect(page.locator("#grid .cell.current")).to_contain_text("%")

            found["another order"] = seconds(sort)
    return found, width


def pictures(folder: Path, data: str, weights: str, target: Path) -> None:
    """Pictures of the page on a data set, after a training."""
    with (
        browser_page() as page,
        served(folder, "--data", data, "--weights", weights, "--method", "tip-adapter") as (
            url,
            _,
        ),
    ):
        page.goto(url)
        settle(page)
        train(page, "tip-adapter")
        page.get_by_role("button", name="Test photos").click()
        time.sleep(1)
        for name, (width, height) in SIZES.items():
            for scheme in ("light", "dark"):
                page.set_viewport_size({"width": width, "height": height})
                page.emulate_media(color_scheme=scheme)
                time.sleep(1)
                page.locator("#report").evaluate("(element) => element.scrollIntoView()")  # on a phone it is below
                picture = page.screenshot(type="jpeg", quality=80)
                write_bytes(target / f"{name}-{scheme}.jpg", picture, ANY)


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default=SAMPLE, help="photos that the pictures show")
    parser.add_argument("--weights", default=SAMPLE, help="weights for these photos")
    parser.add_argument("--pictures", type=Path, default=RESULTS, help="folder of the pictures")
    parser.add_argument("--only", choices=("pictures", "figures"), help="one of the two")
    arguments = parser.parse_args(argv)
    data = arguments.data if arguments.data == SAMPLE else str(Path(arguments.data).resolve())
    if arguments.only != "figures":
        with tempfile.TemporaryDirectory() as folder:
            pictures(Path(folder), data, arguments.weights, arguments.pictures)
    if arguments.only != "pictures":
        columns = {}
        for photos in (FEW, PHOTOS):
            with tempfile.TemporaryDirectory() as folder:
                columns[photos], width = measure(Path(folder), photos)
        rows = [
            {"photos": photos, "what": what, "seconds": round(value, 2)}
            for photos, found in columns.items()
            for what, value in found.items()
        ]
        shown = [[what, *(f"{found[what]:.2f}" for found in columns.values())] for what in columns[FEW]]
        table = markdown_table(["seconds", *(f"{photos:,} photos" for photos in columns)], shown)
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1_000
        facts = {"cores": os.cpu_count(), "load": os.getloadavg()[2], "classes": CLASSES, "shots": SHOTS}
        write_results(RESULTS, rows, COLUMNS, _TEXT.format(table=table, width=width, memory=memory, **facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
