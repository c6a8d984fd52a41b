"""Pictures and tables of results. Pictures come back as PNG bytes; storage writes them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.storage.checksums import png_with_checksum
from jclip_adapter.storage.kinds import SOFTWARE

from .metrics import Score, mean_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREY = "#2b6cb0", "#dd6b20", "#a0aec0"


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # This program's mark in place of matplotlib's name and version: the same numbers give the same bytes.
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": SOFTWARE})
    return png_with_checksum(buffer.getvalue())


def csv_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    r"""Rows as CSV with a header and LF line ends; what is no column is left out.

    >>> csv_text([{"a": 1, "b": 2, "c": 3}], ["b", "a"])
    'b,a\n2,1\n'
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def training_curves(history: Sequence[dict[str, float]], title: str) -> bytes:
    """Draw each quantity of a training over epochs, those epochs that have it.

    Args:
        history: Per epoch: "epoch", and any of "loss", other losses by name, and "top1" in percent.
        title: Above the picture.

    Returns:
        A PNG.
    """
    from matplotlib.figure import Figure

    keys = list(dict.fromkeys(key for row in history for key in row if key != "epoch"))
    figure = Figure(figsize=(4 * len(keys), 3.2), layout="constrained")
    for number, key in enumerate(keys, 1):
        label, colour = ("top-1 in %", _ORANGE) if key == "top1" else (key.replace("_", " "), _BLUE)
        rows = [row for row in history if key in row]
        axes = figure.add_subplot(1, len(keys), number)
        axes.plot([row["epoch"] for row in rows], [row[key] for row in rows], color=colour, marker=".", linewidth=1.5)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.set_title(f"training {label}")
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    return _png(figure)


def confusion_picture(confusion: npt.NDArray[np.int64], domains: Sequence[str]) -> bytes:
    """Draw a confusion matrix, rows scaled to shares, with lines between domains.

    Args:
        confusion: (C, C) counts, true classes in rows.
        domains: C domain names, "" for none.

    Returns:
        A PNG.
    """
    from matplotlib.figure import Figure

    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(7, 6.2), layout="constrained")
    axes = figure.subplots()
    # Square root: single confusions would be invisible beside the diagonal.
    image = axes.imshow(np.sqrt(shares), cmap="magma_r", vmin=0, vmax=1, interpolation="nearest")
    starts = [number for number in range(len(domains)) if number == 0 or domains[number] != domains[number - 1]]
    for start in starts[1:]:
        axes.axhline(start - 0.5, color=_GREY, linewidth=0.8)
        axes.axvline(start - 0.5, color=_GREY, linewidth=0.8)
    middles = [(a + b - 1) / 2 for a, b in zip(starts, [*starts[1:], len(domains)], strict=True)]
    names = [domains[start] or "all" for start in starts]
    axes.set_xticks(middles, names)
    axes.set_yticks(middles, names, rotation=90, va="center")
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    bar = figure.colorbar(image, ax=axes, ticks=[0, 0.5**0.5, 1])
    bar.ax.set_yticklabels(["0 %", "50 %", "100 %"])
    bar.set_label("share of the true class")
    return _png(figure)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table whose columns line up in plain text too; numbers right, words left.

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


def score_table(scores: Sequence[Score], baseline: Sequence[Score], name: str, baseline_name: str = "zero-shot") -> str:
    """Accuracy per domain and in total, beside a baseline, with 95 % intervals.

    Args:
        scores: Of the method.
        baseline: Of the baseline on the same photos, in the same order.
        name: The method's name.
        baseline_name: The baseline's; empty where there is none.

    Returns:
        A Markdown table.
    """
    names = [baseline_name] if baseline_name else []
    rows = []
    for score, other in zip(scores, baseline if names else scores, strict=True):
        low, high = score.top1_interval
        beside = [f"{100 * share:.1f} %" for share in (other.top1, other.top5)] if names else []
        top1, top5 = f"{100 * score.top1:.1f} %", f"{100 * score.top5:.1f} %"
        interval = f"{100 * low:.1f}–{100 * high:.1f} %"
        rows.append([score.domain, score.n, *beside[:1], top1, interval, *beside[1:], top5])
    fives = [f"{each} top-5" for each in (*names, name)]
    return markdown_table(["domain", "photos", *names, name, "95 % interval", *fives], rows)


def benchmark_table(cells: Sequence[dict[str, Any]]) -> str:
    """Top-1 of every method by data set and shots, mean over seeds; transductive methods in a table of their own.

    Where some classes had no shots, each column is three: base, new and their harmonic mean.

    Args:
        cells: As `benchmark.run_benchmark` returns them.

    Returns:
        Markdown, one or two tables, and what stands behind ±.
    """
    parts = []
    for transductive, title in ((False, "Inductive methods"), (True, "Transductive methods (all queries at once)")):
        chosen = [cell for cell in cells if cell["transductive"] is transductive]
        if chosen:
            parts.append(f"### {title}\n\n{_pivot(chosen)}")
    parts.append(_legend(cells))
    return "\n\n".join(parts)


def _legend(cells: Sequence[dict[str, Any]]) -> str:
    """What the tables' numbers are."""
    seeds = len({cell["seed"] for cell in cells})
    what = "Top-1 in percent"
    if seeds < 2:
        return f"{what}, one draw of the shots."
    return f"{what}: mean over {seeds} seeds, ± half the width of its 95 % confidence interval (Student's t)."


def _pivot(cells: Sequence[dict[str, Any]]) -> str:
    columns = sorted({(cell["dataset"], cell["shots"]) for cell in cells})
    keys = ["base", "new", "harmonic"] if "harmonic" in cells[0] else ["top1"]
    rows = []
    for method in sorted({cell["method"] for cell in cells}):
        row = [method]
        for dataset, shots in columns:
            place = (method, dataset, shots)
            found = [c for c in cells if (c["method"], c["dataset"], c["shots"]) == place]
            row += [_mean_of(found, key) for key in keys]
        rows.append(row)
    names = {"top1": "", "base": ", base", "new": ", new", "harmonic": ", H"}
    header = [f"{dataset}, {shots}-shot{names[key]}" for dataset, shots in columns for key in keys]
    return markdown_table(["method", *header], rows)


def _mean_of(cells: Sequence[dict[str, Any]], key: str) -> str:
    """Mean and 95 % interval over the seeds; a dash where there are no cells."""
    if not cells:
        return "–"
    mean, half = mean_interval([cell[key] for cell in cells])
    return f"{mean:.1f}" if np.isnan(half) else f"{mean:.1f} ± {half:.1f}"


def _scale_top1(axes: Any, values: Sequence[float], zero_shot: Sequence[float]) -> None:
    """Give the methods above or a little below zero-shot most of the height, without cutting the others off.

    Below `bend`, 6 points under zero-shot, the axis is compressed.
    """
    low, high = min(values), max(values)
    bend = min(zero_shot, default=low) - 6
    if low >= bend:
        return
    factor = max(1.0, (bend - low) / (0.25 * max(high - bend, 1.0)))  # the lower part takes a fifth of the height

    def forward(value: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.where(value < bend, bend + (value - bend) / factor, value)

    def inverse(place: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.where(place < bend, bend + (place - bend) * factor, place)

    axes.set_yscale("function", functions=(forward, inverse))
    axes.axhline(bend, color=_GREY, linewidth=0.8, linestyle=":")
    upper = axes.yaxis.get_major_locator().tick_values(bend, high)
    axes.set_yticks([round(low), *(tick for tick in upper if bend <= tick <= high)])


def benchmark_picture(cells: Sequence[dict[str, Any]]) -> bytes:
    """Draw top-1 over shots, one panel per data set, and top-1 over fit time.

    Args:
        cells: As `benchmark.run_benchmark` returns them; transductive methods are drawn dashed and hollow. The axis is
            compressed below a dotted line 6 points under zero-shot, as the good methods lie close together.

    Returns:
        A PNG.
    """
    return _png(benchmark_figure(cells))


def benchmark_figure(cells: Sequence[dict[str, Any]]) -> Figure:
    """The figure of `benchmark_picture`."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    datasets = sorted({cell["dataset"] for cell in cells})
    methods = sorted({cell["method"] for cell in cells})
    figure = Figure(figsize=(4.6 * len(datasets) + 2.4, 7.6), layout="constrained")
    panels = figure.subplots(2, len(datasets), squeeze=False)
    for column, dataset in enumerate(datasets):
        for number, method in enumerate(methods):
            mine = [cell for cell in cells if (cell["dataset"], cell["method"]) == (dataset, method)]
            if not mine:
                continue
            shots = sorted({cell["shots"] for cell in mine})
            top1 = [mean_interval([c["top1"] for c in mine if c["shots"] == k])[0] for k in shots]
            seconds = [mean_interval([c["fit_seconds"] for c in mine if c["shots"] == k])[0] for k in shots]
            colour = "black" if method == "zero-shot" else colormaps["tab20"](number % 20)
            transductive = mine[0]["transductive"]
            style = {"color": colour, "marker": "osD^v"[number // 20 % 5], "label": method}
            filling = {"markerfacecolor": "white" if transductive else colour}
            line = "--" if transductive else "-"
            panels[0, column].plot(shots, top1, line, markersize=4, **style, **filling)
            panels[1, column].plot(np.maximum(seconds[-1:], 1e-4), top1[-1:], "", markersize=6, **style, **filling)
        panels[0, column].set_title(dataset)
        panels[0, column].set_xscale("log", base=2)
        counts = sorted({cell["shots"] for cell in cells if cell["dataset"] == dataset})
        panels[0, column].set_xticks(counts, map(str, counts))
        panels[0, column].set_xlabel("shots per class")
        panels[1, column].set_xscale("log")
        panels[1, column].set_xlabel("seconds to fit, at the most shots")
        mine = [cell for cell in cells if cell["dataset"] == dataset]
        zero_shot = [cell["top1"] for cell in mine if cell["method"] == "zero-shot"]
        for row in (0, 1):
            panels[row, column].set_ylabel("top-1 in %")
            _scale_top1(panels[row, column], [cell["top1"] for cell in mine], zero_shot)
            panels[row, column].grid(alpha=0.3)
    known = {
        label: handle for axes in panels[0] for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend([known[name] for name in methods], methods, loc="outside right center", fontsize=7)
    return figure
