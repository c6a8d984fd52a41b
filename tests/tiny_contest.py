"""A contest of a few small photos and random weights of a tiny CLIP: every command takes about a second on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("Animal_Bear", "Animal_Sea_lion", "Caltech-101_chair", "Caltech-101_lamp", "Thu-dog_beagle", "Thu-dog_pug")
FOLDERS = ("Animal/Bear", "Animal/Sea_lion", "Caltech-101/chair", "Caltech-101/lamp", "Thu-dog/beagle", "Thu-dog/pug")
PER_CLASS = 6
TESTS = 10
SIDE = 40  # of a photo in pixels; the tiny model reads 32
WEIGHTS = ("--weights", "tiny.pkl")


def picture(seed: int, width: int = 300, height: int = 200) -> Image.Image:
    """A smooth picture with a little grain, as photos have it; the same for the same seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)).resize((width, height), 3)
    grain = rng.integers(-3, 4, (height, width, 1))
    return Image.fromarray(np.clip(np.asarray(coarse).astype(np.int16) + grain, 0, 255).astype(np.uint8))


def write_photo(path: Path, seed: int, label: int = 0) -> None:
    """A JPEG of random blocks in a colour that goes with its class."""
    rng = np.random.default_rng([label, seed])
    colour = np.random.default_rng(label).integers(0, 200, 3)
    blocks = np.clip(colour + rng.integers(0, 56, (5, 5, 3)), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(blocks).resize((SIDE, SIDE), Image.Resampling.NEAREST).save(path, "JPEG", quality=90)


def write_contest(root: Path, tests: int = TESTS, per_class: int = PER_CLASS) -> Path:
    """Classes in three domains, training photos of each, test photos image_1.jpg and on, and their labels."""
    train = []
    for label, folder in enumerate(FOLDERS):
        for number in range(1, per_class + 1):
            write_photo(root / "TrainSet" / folder / f"{number}.jpg", number, label)
            train.append(f"TrainSet/{folder}/{number}.jpg {label}\n")
    labels = []
    for number in range(1, tests + 1):
        label = number % len(CLASSES)
        write_photo(root / "TestSetA" / f"image_{number}.jpg", 100 + number, label)
        labels.append(f"image_{number}.jpg {label}\n")
    (root / "classes.txt").write_text("".join(f"{name} {label}\n" for label, name in enumerate(CLASSES)))
    (root / "train.txt").write_text("".join(train))
    (root / "TestSetA_labels.txt").write_text("".join(labels))
    return root


def lay_out(folder: Path, tests: int = TESTS) -> Path:
    """Make a working directory with Dataset/ and tiny.pkl.

    Args:
        folder: Where.
        tests: How many test photos; all are labelled.

    Returns:
        `folder`.
    """
    from .random_weights import TINY, random_state, write_jclip

    folder.mkdir(parents=True, exist_ok=True)
    write_contest(folder / "Dataset", tests)
    write_jclip(folder / "tiny.pkl", random_state(TINY))
    return folder
