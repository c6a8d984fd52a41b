"""Features of ImageNet-ESC for tests: the golden file's, and drawn ones where it has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jclip_adapter.data.texts.imagenet_esc import benchmark_classes
from tests.golden_files import Golden

CLASSES = benchmark_classes(27)


def esc_arrays(golden: Golden, shots: tuple[int, ...] = (1, 2, 4)) -> dict[str, np.ndarray]:
    """The arrays of a feature file; photos of splits that the golden file lacks lie around the texts."""
    known = [each.imagenet for each in CLASSES]
    names = golden.facts["audio_class_names"]
    number_of = {names.index(each.category): label for label, each in enumerate(CLASSES)}
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {"categories": np.array([each.category for each in CLASSES])}

    def put(name: str, features: np.ndarray, labels: np.ndarray) -> None:
        kept = labels >= 0
        arrays[f"{name}_x"], arrays[f"{name}_y"] = features[kept].astype(np.float32), labels[kept]

    def labels_of(name: str) -> np.ndarray:
        return np.array([known.index(label) if label in known else -1 for label in golden[name]])

    arrays["text"] = golden["text"][labels_of("text_label") >= 0].astype(np.float32)
    for fold in range(5):
        classes = golden[f"audio_fold{fold}_class"]
        put(
            f"audio_fold{fold + 1}",
            golden[f"audio_fold{fold}"],
            np.array([number_of.get(each, -1) for each in classes]),
        )
    put("image_test", golden["image_test"], labels_of("image_test_label"))
    for count in shots:
        for seed in range(1, 6):
            for part in ("train", "val"):
                theirs = f"image_{part}_shot{count}_seed{seed}"
                if theirs in golden.arrays:
                    put(f"image_{part}{count}_seed{seed}", golden[theirs], labels_of(f"{theirs}_label"))
                else:
                    labels = np.repeat(np.arange(len(CLASSES)), count)
                    rows = arrays["text"][labels] + 0.2 * rng.standard_normal((len(labels), arrays["text"].shape[1]))
                    put(f"image_{part}{count}_seed{seed}", rows, labels)
    return arrays


def write_esc_features(path: Path, golden: Golden, shots: tuple[int, ...] = (1, 2, 4)) -> Path:
    """Write a feature file of the benchmark."""
    np.savez(path, **esc_arrays(golden, shots))
    return path
