"""Draw what photos and texts contribute to a linear classifier, and its decision boundaries: results/representer.png.

    python -m benchmarks.representer caltech62.npz

The classifier is the contest's logistic regression with the texts as training rows beside the photos: C·Σ CE + ½‖W‖².
At its optimum each class's weights are a sum over the training rows (the representer theorem), w = Σ α·φ with α =
C·(y − p): y is 1 for rows of the class and 0 for others, p the predicted probability. So w is the sum of a part of the
texts and a part of the photos, and the share of a part is its inner product with w over ‖w‖²; the two shares add up to
1. results/representer.csv has them for every class.

The decision boundary is drawn for two classes at one shot, in the plane that the weight differences of the classifier
with texts and of the one without span. A score depends on a photo's place in this plane alone, so a photo's side of a
line is its prediction.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import ROOT, reports_user_errors
from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import FewShotTask, softmax
from jclip_adapter.evaluation.report import csv_text
from jclip_adapter.features.file import FeatureFile, read_feature_file
from jclip_adapter.methods.linear_probe import LinearProbe
from jclip_adapter.storage import ANY, write_bytes, write_text

RESULTS = ROOT / "results" / "representer"
COLUMNS = ("dataset", "shots", "class", "text_norm", "photo_norm", "text_share", "photo_share", "residual")
TEXT, PHOTO, GREY = "#dd6b20", "#2b6cb0", "#a0aec0"
MOST_RESIDUAL = 1e-2
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Parts:
    """A classifier's weights as a sum over its training rows.

    Attributes:
        weight: (C, d) the weights.
        text: (C, d) Σ α·φ over the texts.
        photo: (C, d) Σ α·φ over the photos.
    """

    weight: Floats
    text: Floats
    photo: Floats

    @property
    def shares(self) -> tuple[Floats, Floats]:
        """(C,) the text's and the photos' shares of each class's weights."""
        size = (self.weight**2).sum(axis=1)
        return (self.text * self.weight).sum(axis=1) / size, (self.photo * self.weight).sum(axis=1) / size

    @property
    def residual(self) -> Floats:
        """(C,) ‖w − Σ α·φ‖ / ‖w‖: 0 at the exact optimum."""
        rest = self.weight - self.text - self.photo
        return np.asarray(np.linalg.norm(rest, axis=1) / np.linalg.norm(self.weight, axis=1))


def fit(task: FewShotTask, *, texts: bool = True) -> Parts:
    """Logistic regression without intercept on the photos, and on the texts if wanted.

    Args:
        task: Each class needs a photo or a text.
        texts: Whether the class texts are training rows too.
    """
    from sklearn.linear_model import LogisticRegression

    c = LinearProbe.Hyper().c
    photos = task.support_features.astype(np.float64)
    words = task.text_features.astype(np.float64) if texts else np.zeros((0, task.width))
    rows = np.concatenate([photos, words])
    labels = np.concatenate([task.support_labels, np.arange(len(words))])
    two = task.num_classes == 2
    # For two classes scikit-learn fits w₁ − w₀ with its own penalty: ‖w₁ − w₀‖² = 2·(‖w₀‖² + ‖w₁‖²) with w₀ = −w₁.
    head = LogisticRegression(C=2 * c if two else c, fit_intercept=False, tol=1e-8, max_iter=5000).fit(rows, labels)
    weight = np.concatenate([-head.coef_, head.coef_]) / 2 if two else head.coef_
    alpha = -c * softmax(rows @ weight.T).astype(np.float64)
    alpha[np.arange(len(labels)), labels] += c
    count = len(photos)
    return Parts(weight, alpha[count:].T @ words, alpha[:count].T @ photos)


def rows_of(content: FeatureFile) -> Iterator[dict[str, Any]]:
    """Rows of COLUMNS, one per shot count and class.

    Raises:
        DataError: the optimum was not found, so that the parts do not add up to the weights.
    """
    for shots, task in content.tasks.items():
        parts = fit(task)
        if parts.residual.max() > MOST_RESIDUAL:
            raise DataError(f"{content.name}, {shots} shots: the logistic regression did not converge.")
        text, photo = parts.shares
        for number, name in enumerate(task.class_names):
            norms = np.linalg.norm(parts.text[number]), np.linalg.norm(parts.photo[number])
            values = (*norms, text[number], photo[number], parts.residual[number])
            yield dict(zip(COLUMNS, (content.name, shots, name, *(f"{value:.5f}" for value in values)), strict=True))


def confused_pair(content: FeatureFile, shots: int) -> tuple[int, int]:
    """The two classes that the classifier on photos alone confuses most often, both directions together."""
    task = content.tasks[shots]
    predicted = (content.test.queries.features @ fit(task, texts=False).weight.T).argmax(axis=1)
    counts = np.zeros((task.num_classes, task.num_classes), dtype=np.int64)
    np.add.at(counts, (content.test.labels, predicted), 1)
    np.fill_diagonal(counts, 0)
    first, second = np.unravel_index(np.argmax(np.triu(counts + counts.T)), counts.shape)
    return int(first), int(second)


def plane(first: Floats, second: Floats) -> Floats:
    """(2, d) orthonormal axes of the plane that two vectors span; the first axis is the first vector's direction."""
    across = first / np.linalg.norm(first)
    rest = second - (second @ across) * across
    return np.stack([across, rest / np.linalg.norm(rest)])


def picture(rows: Sequence[dict[str, Any]], content: FeatureFile) -> bytes:
    """Shares over shots, shares per class at most shots, and the boundaries with and without texts.

    Args:
        rows: Rows of COLUMNS of this file.
        content: The feature file.

    Returns:
        A PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8.4), layout="constrained")
    places = figure.subplot_mosaic([["shots", "boundary"], ["classes", "classes"]])
    _draw_shots(places["shots"], rows)
    _draw_boundary(places["boundary"], content)
    _draw_classes(places["classes"], rows)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})  # no version: the same bytes again
    return buffer.getvalue()


def _draw_shots(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    counts = sorted({row["shots"] for row in rows})
    shares = [[float(row["text_share"]) for row in rows if row["shots"] == count] for count in counts]
    axes.boxplot(shares, tick_labels=[str(count) for count in counts], medianprops={"color": TEXT})
    axes.set_xlabel("shots per class")
    axes.set_ylabel("text's share of a class's weights")
    axes.set_title("the more photos, the less text")
    axes.set_ylim(0, 1)
    axes.grid(axis="y", alpha=0.3)


def _draw_classes(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    few = min(row["shots"] for row in rows)
    here = sorted((row for row in rows if row["shots"] == few), key=lambda row: -float(row["text_share"]))
    places = np.arange(len(here))
    axes.bar(places, [float(row["text_norm"]) for row in here], color=TEXT, label="‖Σ α·text‖")
    axes.bar(places, [-float(row["photo_norm"]) for row in here], color=PHOTO, label="‖Σ α·photo‖")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(places, [row["class"] for row in here], rotation=90, fontsize=7)
    axes.set_title(f"the two parts of each class's weights, {few}-shot, by the text's share")
    axes.set_ylabel("norm (photos downwards)")
    axes.legend(loc="lower left", ncols=2)


def _draw_boundary(axes: Any, content: FeatureFile) -> None:
    few = min(content.tasks)
    pair = confused_pair(content, few)
    task = content.tasks[few]
    chosen = np.isin(task.support_labels, pair)
    small = FewShotTask(
        task.support_features[chosen],
        np.searchsorted(pair, task.support_labels[chosen]),
        task.text_features[list(pair)],
        tuple(task.class_names[number] for number in pair),
    )
    alone, both = (np.subtract(*fit(small, texts=texts).weight) for texts in (False, True))
    axes_of = plane(both, alone)
    for number, colour in zip(pair, (PHOTO, TEXT), strict=True):
        photos = content.test.queries.features[content.test.labels == number] @ axes_of.T
        axes.scatter(*photos.T, s=8, color=colour, alpha=0.4, label=f"test photos: {task.class_names[number]}")
        shots = task.support_features[task.support_labels == number] @ axes_of.T
        axes.scatter(*shots.T, s=70, color=colour, edgecolor="black", marker="o")
        axes.scatter(*(task.text_features[number] @ axes_of.T), s=110, color=colour, edgecolor="black", marker="*")
    limits = axes.get_xlim(), axes.get_ylim()
    test = content.test
    known = np.isin(test.labels, pair)
    for difference, style, label in ((alone, "--", "photos alone"), (both, "-", "photos and texts")):
        right_side = (test.queries.features[known] @ difference > 0) == (test.labels[known] == pair[0])
        a, b = axes_of @ difference
        along = np.array([-b, a]) * 10 / np.hypot(a, b)
        axes.plot(
            [-along[0], along[0]],
            [-along[1], along[1]],
            style,
            color="black",
            label=f"{label}, {100 * right_side.mean():.0f} % right",
        )
    axes.set(xlim=limits[0], ylim=limits[1])
    axes.set_title(f"{few}-shot boundary; discs: shots, stars: texts")
    axes.legend(fontsize=7)


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Compute, draw and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.representer", description="Draw what photos and texts contribute to a classifier."
    )
    parser.add_argument("file", metavar="FILE.npz", help="a feature file")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where .csv and .png are written")
    given = parser.parse_args(argv)
    content = read_feature_file(given.file)
    rows = list(rows_of(content))
    write_text(given.out.with_suffix(".csv"), csv_text(rows, COLUMNS), ANY)
    write_bytes(given.out.with_suffix(".png"), picture(rows, content), ANY)
    for shots in content.tasks:
        shares = [float(row["text_share"]) for row in rows if row["shots"] == shots]
        print(
            f"{content.name}, {shots} shots: the text's share of a class's weights is {np.median(shares):.2f} (median)"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
