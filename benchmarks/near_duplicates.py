"""Measure from which cosine of features two photos count as near duplicates: results/near-duplicates.csv and .md.

    python -m benchmarks.near_duplicates PHOTOS [--features FILE.npz …]

PHOTOS is a data set of real photos with test labels. Copies of test photos are made as people make them: encoded anew,
halved, cut at the edge. Their cosine with the original is compared with that of each test photo with the training photo
most like it, which is another photo (some are near duplicates all the same, which nobody has marked). The networks are
 EfficientNet-Lite0 and Lite2 with their real weights. Feature files add what CLIP makes of different photos; copies
cannot be made from features. "above" is the share above the threshold that evaluation takes.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import ROOT, reports_user_errors
from jclip_adapter.core.task import Array, normalise
from jclip_adapter.data.sets import load_dataset
from jclip_adapter.evaluation.report import csv_text, markdown_table
from jclip_adapter.features.encoding import encode_photos
from jclip_adapter.features.file import read_feature_file
from jclip_adapter.features.overlap import NEAR
from jclip_adapter.models.backbones import KNOWN
from jclip_adapter.models.backbones.encoder import load_backbone
from jclip_adapter.storage import write_bytes, write_text

RESULTS = ROOT / "results" / "near-duplicates"
DIFFERENT = "different photos, the nearest"
SHARES = (0.1, 1, 5, 50, 95, 99, 99.9)  # percentiles
COPIES = 200  # test photos that are copied, evenly taken from all


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _halved(image: Image.Image) -> Image.Image:
    return image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.BICUBIC)


def _cut(image: Image.Image) -> Image.Image:
    x, y = round(0.025 * image.width), round(0.025 * image.height)
    return image.crop((x, y, image.width - x, image.height - y))


WAYS: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG of quality 75": lambda image: _jpeg(image, 75),
    "JPEG of quality 50": lambda image: _jpeg(image, 50),
    "halved": lambda image: _jpeg(_halved(image), 90),
    "halved, JPEG of quality 50": lambda image: _jpeg(_halved(image), 50),
    "2.5 % cut off each edge": lambda image: _jpeg(_cut(image), 90),
}


def measure_photos(network: str, data: Path, cache: Path) -> dict[str, Array]:
    """Cosines by what they compare: copies by the way that they were made, and different photos."""
    images = load_dataset(data)
    encoder = load_backbone(network, "auto", 0, cache)
    test = encode_photos(encoder, [photo.path for photo in images.test], cache).normalised
    train = encode_photos(encoder, [photo.path for photo in images.train], cache).normalised
    cosines = {DIFFERENT: (test @ train.T).max(axis=1)}
    chosen = np.linspace(0, len(images.test) - 1, min(COPIES, len(images.test))).astype(int)
    for number, (name, way) in enumerate(WAYS.items()):
        folder = cache / f"copies-{number}"
        paths = []
        for row in chosen:
            with Image.open(images.test[row].path) as image:
                paths.append(folder / f"{row}.jpg")
                write_bytes(paths[-1], way(image.convert("RGB")))
        copies = encode_photos(encoder, paths, cache).normalised
        cosines[name] = (copies * test[chosen]).sum(axis=1)
    return cosines


def measure_features(path: Path) -> Array:
    """Cosine of each of a feature file's test photos with the other one that is most like it."""
    rows = normalise(np.asarray(read_feature_file(path).test.queries.features, dtype=np.float32))
    products = rows @ rows.T
    np.fill_diagonal(products, -1)
    return np.asarray(products.max(axis=1), dtype=np.float32)


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, metavar="PHOTOS")
    parser.add_argument("--features", nargs="*", default=[], type=Path, metavar="FILE.npz")
    options = parser.parse_args(argv)
    measured: list[tuple[str, str, Array, float]] = []
    with tempfile.TemporaryDirectory() as cache:
        for network in KNOWN:
            for what, values in measure_photos(network, options.photos, Path(cache)).items():
                measured.append((network, what, values, NEAR[network]))
    for path in options.features:
        measured.append((f"CLIP's features, {path.stem}", DIFFERENT, measure_features(path), NEAR["clip"]))
    titles = ["network", "what", "pairs", *(f"{share} %" for share in SHARES), "threshold", "above"]
    rows = [
        {"network": network, "what": what, "pairs": str(len(values))}
        | {f"{share} %": f"{value:.4f}" for share, value in zip(SHARES, np.percentile(values, SHARES), strict=True)}
        | {"threshold": f"{threshold:.2f}", "above": f"{100 * np.mean(values > threshold):.1f} %"}
        for network, what, values, threshold in measured
    ]
    write_text(RESULTS.with_suffix(".csv"), csv_text(rows, titles))
    table = markdown_table(titles, [[row[title] for title in titles] for row in rows])
    write_text(
        RESULTS.with_suffix(".md"),
        "Percentiles of cosines of features, and the share above the threshold.\n\n" + table + "\n",
    )
    sys.stdout.write(table + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
