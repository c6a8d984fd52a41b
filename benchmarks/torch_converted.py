"""Converted folders in open_clip and transformers: do they compute the features that the folders are tested with?

    for model in tests/golden/models/*; do python runner.py --convert $model converted/$(basename $model); done
    python -m benchmarks.torch_converted converted > results/converted-folders.csv

In an environment with torch, open_clip_torch, timm and transformers, and without this program's packages. One row per
folder and library: the largest error of both towers' features, as a share of the largest number.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).resolve().parent.parent / "tests/golden/models"


def main(folders: Path) -> None:
    """Write the table.

    Args:
        folders: A folder with the converted folders, named as those in tests/golden/models.
    """
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(("model", "library", "version", "image_error", "text_error"))
    for folder in sorted(folders.iterdir()):
        with np.load(GOLDEN / folder.name / "golden.npz") as arrays:
            golden = dict(arrays)
        for name, compute, file in (
            ("open_clip", _open_clip, "open_clip_config.json"),
            ("transformers", _transformers, "config.json"),
        ):
            if (folder / file).is_file():
                version, image, text = compute(folder, golden)
                errors = (_error(image, golden["image_features_f64"]), _error(text, golden["text_features_f64"]))
                rows.writerow((folder.name, name, version, *(f"{error:.1e}" for error in errors)))


def _open_clip(folder: Path, golden: dict[str, Any]) -> tuple[str, Any, Any]:
    import open_clip
    import torch

    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{folder.absolute()}")
    ids = golden.get("input_ids_zero_padded", golden["input_ids"])
    with torch.no_grad():
        image = model.eval().encode_image(torch.tensor(golden["pixel_values"]))
        text = model.encode_text(torch.tensor(ids.astype(np.int64)))
    return open_clip.__version__, image.numpy(), text.numpy()


def _transformers(folder: Path, golden: dict[str, Any]) -> tuple[str, Any, Any]:
    import torch
    import transformers

    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    texts = {"input_ids": torch.tensor(golden["input_ids"].astype(np.int64))}
    if "attention_mask" in golden:
        texts["attention_mask"] = torch.tensor(golden["attention_mask"].astype(np.int64))
    with torch.no_grad():
        image = model.get_image_features(pixel_values=torch.tensor(golden["pixel_values"]))
        text = model.get_text_features(**texts)
    found = (output if torch.is_tensor(output) else output.pooler_output for output in (image, text))
    return transformers.__version__, *(output.numpy() for output in found)


def _error(found: Any, wanted: Any) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
