"""The picture-book painter: draws the built-in sample in the contest's layout, into data/sample/photos.zip.

    python -m tools.sample.painter

The photos are drawings, not photographs: the sample is a toy that lets every command run, and every part be
tested, without the contest's data. The same seed gives the same bytes for one version of Pillow.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from jclip_adapter import storage
from jclip_adapter.core.console import progress
from jclip_adapter.data.sample import PHOTOS

from .canvas import Pen, Style
from .classes import CLASSES, PictureClass
from .scenery import grade, paint_background, paint_clutter

VERSION = 2
"""Raise it whenever a change here or in a painter changes the photos: the card of the weights names it."""

PHOTO_SIZE = 96
TRAIN_PER_CLASS = 16
TEST_PER_CLASS = 12
SEED = 2024
_SUPERSAMPLING = 2
_SPLITS = {"train": 0, "test": 1, "pretrain": 2}

PHOTO_STYLE = Style(
    name="photo",
    outline=0.012,
    shading=0.9,
    warp=0.035,
    scale=(0.75, 0.98),
    turn=12.0,
    shift=0.15,
    backgrounds=("meadow", "room", "bokeh", "gradient"),
    clutter=0.2,
    hue=-23.0,
    saturation=0.8,
    light=(0.85, 1.05),
    cast=0.03,
    tint=(1.0, 0.98, 0.95),
    noise=5.0,
    blur=(0.0, 0.6),
)
"""The sample's own photos: hardly an outline, round shading, scenes behind the subject, and a rosy light.

The light (`hue`) is what zero-shot stumbles over most, and what a few shots mend best: it moves all features of a
class alike. It was set so that zero-shot ends where the contest's does.
"""

BOOK_STYLE = Style(
    name="book",
    outline=0.03,
    ink=0.2,
    shading=0.3,
    warp=0.035,
    scale=(0.66, 1.0),
    turn=16.0,
    shift=0.2,
    backgrounds=("plain", "dots", "stripes", "gradient", "meadow", "room", "bokeh"),
    clutter=0.3,
    saturation=1.15,
    light=(0.82, 1.08),
    cast=0.06,
    noise=5.0,
    blur=(0.0, 0.7),
)
"""What the small CLIP was pretrained on: inked and colourful, as in a picture book."""


def paint(
    kind: PictureClass,
    style: Style,
    rng: np.random.Generator,
    *,
    size: int = PHOTO_SIZE,
    supersampling: int = _SUPERSAMPLING,
) -> Image.Image:
    """Draw one picture.

    Args:
        kind: Whose picture.
        style: How it is drawn.
        rng: Random numbers for pose, colours, background and noise.
        size: Width and height in pixels.
        supersampling: How many times larger it is drawn before it is scaled down.

    Returns:
        An RGB image of size × size.
    """
    image = Image.new("RGB", (size * supersampling, size * supersampling))
    paint_background(image, style, rng)
    kind.paint(Pen(image, style, rng))
    paint_clutter(image, style, rng)
    return grade(image.resize((size, size), Image.Resampling.BOX), style, rng)


def picture_rng(seed: int, split: str, class_id: int, index: int) -> np.random.Generator:
    """The random numbers of one picture: the same whatever else is drawn, and in whatever order."""
    return np.random.default_rng([seed, _SPLITS[split], class_id, index])


def write_sample(
    folder: Path,
    *,
    seed: int = SEED,
    train_per_class: int = TRAIN_PER_CLASS,
    test_per_class: int = TEST_PER_CLASS,
    classes: tuple[PictureClass, ...] = CLASSES,
    style: Style = PHOTO_STYLE,
) -> None:
    """Draw a data set in the contest's layout.

    Args:
        folder: Where; it is made if it is missing.
        seed: Seed of every picture and of the test photos' order.
        train_per_class: Photos per class in TrainSet.
        test_per_class: Photos per class in TestSetA.
        classes: The classes, their ids being their positions.
        style: How the photos are drawn.

    Raises:
        SetupError: the folder cannot be written.
    """
    order = np.random.default_rng([seed, len(_SPLITS)]).permutation(len(classes) * test_per_class)
    lines: dict[str, list[str]] = {"classes.txt": [], "train.txt": [], "TestSetA_labels.txt": [""] * len(order)}
    jobs: list[tuple[str, int, int, str]] = []
    for class_id, kind in enumerate(classes):
        lines["classes.txt"].append(f"{kind.name} {class_id}")
        for index in range(train_per_class):
            path = f"TrainSet/{kind.domain}/{kind.folder}/{index + 1}.jpg"
            lines["train.txt"].append(f"{path} {class_id}")
            jobs.append(("train", class_id, index, path))
        for index in range(test_per_class):
            place = int(order[class_id * test_per_class + index])
            lines["TestSetA_labels.txt"][place] = f"image_{place + 1}.jpg {class_id}"
            jobs.append(("test", class_id, index, f"TestSetA/image_{place + 1}.jpg"))
    for split, class_id, index, path in progress(jobs, desc="drawing the sample", unit="photo", leave=False):
        picture = paint(classes[class_id], style, picture_rng(seed, split, class_id, index))
        _write_jpeg(folder / path, picture)
    for name, rows in lines.items():
        storage.write_text(folder / name, "\n".join(rows) + "\n")


def _write_jpeg(path: Path, picture: Image.Image) -> None:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=88)
    storage.write_bytes(path, buffer.getvalue())


def pack(folder: Path) -> bytes:
    """A folder as a zip that is the same for the same files: in order, without times, not packed further.

    Args:
        folder: The folder.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix()), path.read_bytes())
    return buffer.getvalue()


def main() -> None:
    """Draw the sample anew and replace its archive."""
    with tempfile.TemporaryDirectory() as folder:
        write_sample(Path(folder))
        storage.write_bytes(PHOTOS, pack(Path(folder)), storage.ANY)


if __name__ == "__main__":
    main()
