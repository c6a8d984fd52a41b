"""Pictures (as PNG bytes) and tables of results."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.methods import get
from jclip_adapter.storage.checksums import png_with_checksum
from jclip_adapter.storage.kinds import SOFTWARE

from .metrics import Score, mean_interval, wilson_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREY = "#2b6cb0", "#dd6b20", "#a0aec0"


def _png(figure: Figure) -> bytes:
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


def training_curves(history: Sequence[dict[str, float]], title: str) -> bytes:
    """Draw each recorded quantity of a training over epochs.

    Args:
        history: Per epoch "epoch", and any of "loss", other losses by name, and "top1" in percent.
        title: Title of the picture.

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
    # Square root, so that single confusions are visible.
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
    *,
    top5: bool = True,
) -> str:
    """Accuracy per domain and in total, with 95 % intervals and a baseline.

    Args:
        scores: Scores of the method.
        baseline: Scores of the baseline on the same photos, in the same order.
        name: The method's name.
        baseline_name: The baseline's name; empty without one.
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
    header = ["domain" if len(rows) > 1 else "", "photos", *names, name, "95 % interval", *shown]
    return markdown_table(header, rows)


def benchmark_table(cells: Sequence[dict[str, Any]]) -> str:
    """Mean top-1 over seeds by method, data set and shots; transductive methods in a separate table.

    If some classes had no shots, each column becomes three: base, new and their harmonic mean.

    Args:
        cells: As `benchmark.run_benchmark` returns them.

    Returns:
        Markdown: one or two tables and a legend.
    """
    parts = []
    for transductive, title in ((False, "Inductive methods"), (True, "Transductive methods (all queries at once)")):
        chosen = [cell for cell in cells if cell["transductive"] is transductive]
        if chosen:
            parts.append(f"### {title}\n\n{_pivot(chosen)}")
    parts.append(_legend(cells))
    return "\n\n".join(parts)


def _legend(cells: Sequence[dict[str, Any]]) -> str:
    seeds = len({cell["seed"] for cell in cells})
    if seeds < 2:
        return "Top-1 in percent, one draw of the shots."
    return f"Top-1 in percent: mean over {seeds} seeds ± half-width of its 95 % confidence interval (Student's t)."


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


_KINDS = {
    "zero-shot": "#1a202c",
    "training-free": "#2f855a",
    "trained on features": _BLUE,
    "trained through CLIP": "#6b46c1",
    "transductive": _ORANGE,
}
_BELOW = 6.0  # points under zero-shot at which the axis ends; methods below are drawn at its edge


def kind_of(method: str) -> str:
    """The group of a method in pictures, one of `_KINDS`, from its `Meta`."""
    meta = get(method).meta
    if meta.transductive:
        return "transductive"
    if not {"support", "auxiliary", "encoder"} & {*meta.needs}:
        return "zero-shot"
    if meta.trains == "nothing":
        return "training-free"
    return "trained through CLIP" if "encoder" in meta.needs else "trained on features"


def _interval(cells: Sequence[dict[str, Any]]) -> tuple[float, float, float]:
    """Mean top-1 and the ends of its 95 % interval: over seeds (t), or over one seed's queries (Wilson) if known."""
    mean, half = mean_interval([cell["top1"] for cell in cells])
    if not np.isnan(half):
        return mean, mean - half, mean + half
    queries = int(cells[0].get("queries", 0))
    if not queries:
        return mean, mean, mean
    low, high = wilson_interval(round(mean / 100 * queries), queries)
    return mean, 100 * low, 100 * high


def benchmark_picture(cells: Sequence[dict[str, Any]]) -> bytes:
    """Draw top-1 of every method, a panel per data set.

    Args:
        cells: As `benchmark.run_benchmark` returns them. Methods are grouped by kind and sorted by top-1 at the most
            shots, whose value and 95 % interval are drawn; fewer shots are paler dots. A dashed line is zero-shot.

    Returns:
        A PNG.
    """
    return _png(benchmark_figure(cells))


def benchmark_figure(cells: Sequence[dict[str, Any]]) -> Figure:
    """The figure of `benchmark_picture`."""
    from matplotlib.figure import Figure

    datasets = sorted({cell["dataset"] for cell in cells})
    methods, kinds = ({key(cell["method"]) for cell in cells} for key in (str, kind_of))
    columns = min(2, len(datasets))
    rows = -(-len(datasets) // columns)
    height = rows * (1.2 + 0.2 * (len(methods) + len(kinds)))
    figure = Figure(figsize=(5.6 * columns, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, dataset in zip(panels, datasets, strict=False):
        _draw_ranking(axes, [cell for cell in cells if cell["dataset"] == dataset])
        axes.set_title(dataset)
    for axes in panels[len(datasets) :]:
        axes.remove()
    return figure


def _draw_ranking(axes: Any, cells: Sequence[dict[str, Any]]) -> None:
    """Draw one data set: a row per method below a row with the name of its kind."""
    counts = sorted({cell["shots"] for cell in cells})
    found: dict[str, dict[int, tuple[float, float, float]]] = {}
    for method in {cell["method"] for cell in cells}:
        mine = [cell for cell in cells if cell["method"] == method]
        groups = {count: [cell for cell in mine if cell["shots"] == count] for count in counts}
        found[method] = {count: _interval(group) for count, group in groups.items() if group}
    best = {method: found[method][max(found[method])][0] for method in found}
    reference = next((best[method] for method in best if kind_of(method) == "zero-shot"), None)
    low = min(end for method in found for _, end, _ in found[method].values())
    edge = low if reference is None else max(low, reference - _BELOW)
    order = sorted(found, key=lambda method: (list(_KINDS).index(kind_of(method)), -best[method], method))
    labels: list[tuple[str, str]] = []
    for number, method in enumerate(order):
        kind = kind_of(method)
        if method != kind and (number == 0 or kind != kind_of(order[number - 1])):
            labels.append((kind, kind))
        for count, (mean, left, right) in found[method].items():
            last = count == max(found[method])
            shade = 1.0 if last else 0.2 + 0.5 * counts.index(count) / len(counts)
            style = {"color": _KINDS[kind], "alpha": shade, "markersize": 6 if last else 4}
            axes.plot(max(mean, edge), len(labels), "o" if mean >= edge else "<", **style)
            if last and mean >= edge:
                axes.plot([max(left, edge), right], [len(labels)] * 2, "-", color=_KINDS[kind], alpha=0.4, linewidth=2)
        axes.annotate(
            f"{best[method]:.1f}", (1.01, len(labels)), xycoords=("axes fraction", "data"), va="center", fontsize=8
        )
        labels.append((method, kind))
    axes.set_yticks(range(len(labels)), [text for text, _ in labels], fontsize=8)
    for tick, (text, kind) in zip(axes.get_yticklabels(), labels, strict=True):
        tick.set(color=_KINDS[kind], fontweight="bold" if text in _KINDS and text == kind else "normal")
    axes.set_ylim(len(labels) - 0.5, -0.5)
    if reference is not None:
        axes.axvline(reference, color=_GREY, linewidth=1, linestyle="--", zorder=0)
    shots = f"{', '.join(map(str, counts))} shots per class{' (pale to dark)' if len(counts) > 1 else ''}"
    axes.set_xlabel(f"top-1 in %, {shots}; bars: 95 % intervals", fontsize=9)
    axes.grid(axis="x", alpha=0.3)
