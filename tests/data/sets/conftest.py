"""Tiny data sets in the contest's layout."""

from collections.abc import Callable
from pathlib import Path

import pytest

CLASSES = ["Animal_Bear 0", "Animal_Sea_lion 1", "Caltech-101_car_side 2", "Thu-dog_pug 3"]
FOLDERS = ["Animal/Bear", "Animal/Sea_lion", "Caltech-101/car_side", "Thu-dog/pug"]
TRAIN = [f"TrainSet/{folder}/{n}.jpg {i}" for i, folder in enumerate(FOLDERS) for n in range(1, 7)]
TEST = ["image_10.jpg", "image_2.jpeg", "image_1.PNG"]


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.fixture
def contest(tmp_path: Path) -> Callable[..., Path]:
    """Build a data set and give its folder; every part can be replaced."""

    def build(classes=CLASSES, train=TRAIN, test=TEST, files=TRAIN, end="\n", split="A") -> Path:
        root = tmp_path / "Dataset"
        root.mkdir()
        (root / "TrainSet").mkdir()
        for line in files:
            touch(root / line.rsplit(" ", 1)[0])
        for name in test:
            touch(root / f"TestSet{split}" / name)
        (root / "classes.txt").write_bytes(end.join(classes).encode())
        (root / "train.txt").write_bytes(end.join(train).encode())
        return root

    return build
