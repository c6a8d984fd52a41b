"""Measure the local page in Chromium, and take its pictures: results/page.csv and .md, and results/page/*.png.

    python -m benchmarks.page
    python -m benchmarks.page --data PHOTOS --weights efficientnet-lite0 --pictures OTHER_FOLDER

Two worlds. 50,000 generated photos of 50 classes, of which 20 per class are labelled; their features are random points
around the classes' and are written to the store, as a machine that has encoded them has it. And a data set whose
photos are seen in the pictures, at three sizes, in light and dark.
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
from typing import Any

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
PHOTOS, CLASSES, SHOTS = 50_000, 50, 20
METHODS = ("auto", "tip-adapter", "gda")
SHARD = 128
SIZES = {"phone": (390, 844), "tablet": (820, 1180), "desktop": (1440, 900)}
COLUMNS = ("photos", "what", "seconds")
PATIENCE_MS = 600_000
_TEXT = """# The local page, measured

`python -m benchmarks.page` measured this on {machine}, in Chromium, with {photos:,} generated photos of {classes}
classes and {shots} labelled photos per class; features of width {width} are in the store. The server's process took
{memory} MB at most.

{table}
"""


def generate(folder: Path, cache: Path) -> int:
    """Draw the photos, write their features into the sample's store, and list SHOTS per class in photos.csv.

    Returns:
        Width of the features.
    """
    rng = np.random.default_rng(0)
    encoder = load_encoder(SAMPLE, "cpu", 0, cache)
    store = image_store(encoder, cache)
    centres = rng.normal(size=(CLASSES, encoder.width))
    keys: list[bytes] = []
    rows, lines = [], ["path,label,split"]
    for number in range(PHOTOS):
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
    for first in range(0, PHOTOS, SHARD):
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
        if state["report"].get("method") == method and state["report"].get("after") and not state["doing"]:
            break
        time.sleep(0.03)
    expect(report).to_contain_text(method)
    return trained, time.perf_counter() - start


def measure(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """Rows of COLUMNS of the generated photos, and the width of their features."""
    width = generate(folder / "photos", folder / "cache")
    arguments = ("--data", "photos", "--weights", SAMPLE, "--cache", "cache", "--method", METHODS[-1])
    rows: list[dict[str, Any]] = []

    def note(what: str, value: float) -> None:
        rows.append({"photos": PHOTOS, "what": what, "seconds": round(value, 2)})

    with browser_page() as page:
        with served(folder, *arguments) as (url, started):
            note("start of the program, the first time", started)
            page.goto(url)
            note("reading all files, the first time", seconds(lambda: settle(page)))
            for method in METHODS:
                predicted, measured = train(page, method)
                note(f"training by {method} until all predictions are new", predicted)
                note(f"training by {method} until its accuracy is there", measured)
        with served(folder, *arguments) as (url, started):
            note("start of the program again", started)
            page.goto(url)
            note("taking up the last training", seconds(lambda: settle(page)))
            note("first screen", seconds(lambda: first_screen(page, url)))
            page.locator("#grid").focus()

            def to_the_end() -> None:
                page.keyboard.press("End")
                expect(page.locator("#grid .cell.current")).to_contain_text("%")

            note("to the last photo", seconds(to_the_end))
            page.keyboard.press("Control+a")
            expect(page.locator("#count")).to_contain_text("selected")

            def sort() -> None:
                page.locator("#sort").select_option("by class")
                expect(page.locator("#grid .cell.current")).to_contain_text("%")

            note("another order", seconds(sort))
    return rows, width


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
                write_bytes(target / f"{name}-{scheme}.png", page.screenshot(), ANY)


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
    with tempfile.TemporaryDirectory() as folder:
        if arguments.only != "figures":
            pictures(Path(folder), data, arguments.weights, arguments.pictures)
        if arguments.only != "pictures":
            rows, width = measure(Path(folder))
            memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
            table = markdown_table(["what", "seconds"], [[row["what"], f"{row['seconds']:.2f}"] for row in rows])
            machine = f"{os.cpu_count()} cores"
            facts = {"photos": PHOTOS, "classes": CLASSES, "shots": SHOTS, "width": width, "memory": memory}
            write_results(RESULTS, rows, COLUMNS, _TEXT.format(machine=machine, table=table, **facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
