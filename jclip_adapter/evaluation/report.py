"""Pictures (as PNG bytes) and tables of results."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.problems import one_line
from jclip_adapter.storage.checksums import png_with_checksum
from jclip_adapter.storage.kinds import SOFTWARE

from .metrics import BINS, Score, calibration_error, confidence_bins

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#2b6cb0", "#dd6b20", "#a0aec0"
NAMED = 40
"""Classes whose confusions are all drawn; of more, the worst are."""
WORST = 20
"""Classes that are drawn if there are more than `NAMED`."""
DEFAULT_FONT = "DejaVu Sans"  # comes with matplotlib
_CHINESE_FONTS = frozenset(
    {
        *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei"),
        *("Droid Sans Fallback", "Microsoft YaHei", "SimHei", "PingFang SC", "Heiti SC", "Hiragino Sans GB"),
    }
)
_LONGEST = 26  # characters of a class name in a picture


def png(figure: Figure) -> bytes:
    """A figure as PNG with a checksum."""
    buffer = io.BytesIO()
    # Not matplotlib's version, so that equal results give equal bytes.
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": SOFTWARE})
    return png_with_checksum(buffer.getvalue())


def csv_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    r"""Rows as CSV with a header and LF line ends; keys without a column are ignored.

    >>> csv_text([{"a": 1, "b": 2, "c": 3}], ["b", "a"])
    'b,a\n2,1\n'
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def training_curves(history: Sequence[dict[str, float]], title: str, step_losses: Sequence[float] = ()) -> bytes:
    """Draw the loss of each step, and each recorded quantity of a training over epochs.

    Args:
        history: Per epoch "epoch", and any of "loss", other losses by name, and "top1" in percent.
        title: Title of the picture.
        step_losses: Loss of every step; none for no such plot.

    Returns:
        A PNG.
    """
    from matplotlib.figure import Figure

    plots: list[tuple[str, str, Sequence[float], Sequence[float]]] = []
    if len(step_losses):
        plots.append(("step", "loss", range(1, len(step_losses) + 1), step_losses))
    for key in dict.fromkeys(key for row in history for key in row if key != "epoch"):
        label = "top-1 in %" if key == "top1" else key.replace("_", " ")
        rows = [row for row in history if key in row]
        plots.append(("epoch", label, [row["epoch"] for row in rows], [row[key] for row in rows]))
    figure = Figure(figsize=(4 * len(plots), 3.2), layout="constrained")
    for number, (unit, label, places, values) in enumerate(plots, 1):
        axes = figure.add_subplot(1, len(plots), number)
        marker, width = (".", 1.5) if unit == "epoch" else ("", 0.8)
        axes.plot(places, values, color=ORANGE if "top-1" in label else BLUE, marker=marker, linewidth=width)
        axes.set_xlabel(unit)
        axes.set_ylabel(label)
        axes.set_title(f"training {label} per {unit}")
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    return png(figure)


def confusion_picture(confusion: npt.NDArray[np.int64], names: Sequence[str], domains: Sequence[str]) -> bytes:
    """Draw a confusion matrix, rows scaled to shares, with class names and with lines between domains.

    Of more than `NAMED` classes, the `WORST` with the most errors are drawn: their photos that are predicted as other
    classes, and other classes' photos that are predicted as them.

    Args:
        confusion: (C, C) counts, true classes in rows.
        names: C class names.
        domains: C domain names, "" for none.

    Returns:
        A PNG.
    """
    from matplotlib.figure import Figure

    rows = most_confused(confusion) if len(names) > NAMED else np.arange(len(names))
    shares = (confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1))[np.ix_(rows, rows)]
    side = 3.2 + 0.17 * max(len(rows), 8)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    # Square root, so that single confusions are visible.
    image = axes.imshow(np.sqrt(shares), cmap="magma_r", vmin=0, vmax=1, interpolation="nearest")
    shown = [domains[row] for row in rows]
    for start in [number for number in range(1, len(shown)) if shown[number] != shown[number - 1]]:
        axes.axhline(start - 0.5, color=GREY, linewidth=0.8)
        axes.axvline(start - 0.5, color=GREY, linewidth=0.8)
    labels, fonts = _labels([names[row] for row in rows])
    style: dict[str, Any] = {"fontsize": 7, "fontfamily": fonts, "parse_math": False}
    axes.set_xticks(range(len(rows)), labels, rotation=90, **style)
    axes.set_yticks(range(len(rows)), labels, **style)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if len(rows) < len(names):
        axes.set_title(f"the {len(rows)} of {len(names)} classes with the most errors", fontsize=10)
    bar = figure.colorbar(image, ax=axes, ticks=[0, 0.5**0.5, 1], shrink=0.6)
    bar.ax.set_yticklabels(["0 %", "50 %", "100 %"])
    bar.set_label("share of the true class")
    return png(figure)


def most_confused(confusion: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Indices of the `WORST` classes with the most errors, as true or as predicted class, in increasing order.

    >>> most_confused(np.array([[3, 1, 0], [0, 2, 0], [0, 0, 5]])).tolist()
    [0, 1, 2]
    """
    wrong = confusion - np.diag(np.diag(confusion))
    return np.sort(np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1)), kind="stable")[:WORST])


def _labels(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Short labels of classes, and fonts with their characters.

    A name with characters that no installed font has is replaced by its place among these names, from 1.
    """
    from matplotlib import font_manager

    fonts = [DEFAULT_FONT, *sorted(set(font_manager.get_font_names()) & _CHINESE_FONTS)]
    known: set[int] = set()
    short = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in map(one_line, names)]
    if not "".join(short).isascii():
        for font in fonts:
            known.update(font_manager.get_font(font_manager.findfont(font)).get_charmap())
    drawable = [name.isascii() or known.issuperset(map(ord, name)) for name in short]
    return [
        name if fits else str(place) for place, (name, fits) in enumerate(zip(short, drawable, strict=True), 1)
    ], fonts


def reliability_picture(probabilities: npt.ArrayLike, labels: npt.ArrayLike, title: str) -> bytes:
    """Draw the accuracy of photos over their confidence, in the bins of the expected calibration error.

    Args:
        probabilities: (M, C).
        labels: (M,) class indices.
        title: Title of the picture.

    Returns:
        A PNG.
    """
    from matplotlib.figure import Figure

    bins = confidence_bins(probabilities, labels)
    figure = Figure(figsize=(5, 5.6), layout="constrained")
    axes, below = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    places = (np.arange(BINS) + 0.5) * 100 / BINS
    axes.bar(places, [100 * np.nan_to_num(share) for _, _, share in bins], 92 / BINS, color=BLUE)
    axes.plot([0, 100], [0, 100], "--", color=GREY)
    points = [(100 * mean, 100 * share) for count, mean, share in bins if count]
    axes.plot(*zip(*points, strict=True), "o", color=ORANGE, label="mean confidence of the bin's photos")
    axes.set_ylabel("accuracy in %")
    axes.set_ylim(0, 100)
    axes.legend(loc="lower right")
    axes.set_title(f"{title}: expected calibration error {100 * calibration_error(probabilities, labels):.1f} %")
    below.bar(places, [count for count, _, _ in bins], 92 / BINS, color=GREY)
    below.set_xlabel("confidence in %")
    below.set_ylabel("photos")
    below.set_xlim(0, 100)
    return png(figure)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table with aligned columns: numbers right, words left.

    >>> print(markdown_table(["name", "n"], [["a", 10], ["bc", 2]]))
    | name |  n |
    |------|---:|
    | a    | 10 |
    | bc   |  2 |
    """
    cells = [[str(cell) for cell in row] for row in rows]
    numeric = [all(_is_number(row[column]) for row in rows) for column in range(len(header))]
    widths = [max(len(cell) for cell in column) for column in zip(header, *cells, strict=True)]

    def line(values: Sequence[str]) -> str:
        parts = (v.rjust(w) if right else v.ljust(w) for v, w, right in zip(values, widths, numeric, strict=True))
        return f"| {' | '.join(parts)} |"

    rule = "|".join("-" * (w + 1) + (":" if right else "-") for w, right in zip(widths, numeric, strict=True))
    return "\n".join([line(list(header)), f"|{rule}|", *map(line, cells)])


def _is_number(cell: object) -> bool:
    return not isinstance(cell, str) or cell.endswith("%")


def score_table(
    scores: Sequence[Score],
    baseline: Sequence[Score],
    name: str,
    baseline_name: str = "zero-shot",
    kind: str = "photo",
    *,
    top5: bool = True,
) -> str:
    """Accuracy per domain and in total, with 95 % intervals and a baseline.

    Args:
        scores: Scores of the method.
        baseline: Scores of the baseline on the same photos, in the same order.
        name: The method's name.
        baseline_name: The baseline's name; empty without one.
        kind: What is scored.
        top5: Whether to show top-5, which says nothing with at most five classes.

    Returns:
        A Markdown table.
    """
    names = [baseline_name] if baseline_name else []
    rows = []
    for score, other in zip(scores, baseline if names else scores, strict=True):
        low, high = score.top1_interval
        pair = (other, score) if names else (score,)
        ones = [f"{100 * each.top1:.1f} %" for each in pair]
        fives = [f"{100 * each.top5:.1f} %" for each in pair if top5]
        rows.append([score.domain, score.n, *ones, f"{100 * low:.1f}–{100 * high:.1f} %", *fives])
    shown = [f"{each} top-5" for each in (*names, name) if top5]
    header = ["domain" if len(rows) > 1 else "", f"{kind}s", *names, name, "95 % interval", *shown]
    return markdown_table(header, rows)
