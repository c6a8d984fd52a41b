"""The tables and the picture of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jclip_adapter.methods import get

from .metrics import BINS, mean_interval, wilson_interval
from .report import BLUE, GREY, ORANGE, markdown_table, png

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def benchmark_table(cells: Sequence[dict[str, Any]]) -> str:
    """Mean top-1 over seeds by method, data set and shots; transductive methods in a separate table.

    If some classes had no shots, each column becomes three: base, new and their harmonic mean; in the base-to-new
    protocol also their difference and the accuracy among all classes. Several shares of classes without shots are a
    table each. If the queries were divided into tasks of few classes, each column becomes three as well: the tasks as
    drawn, as many of their queries as the last column has, and tasks with drawn class shares.

    Args:
        cells: As `benchmark.run_benchmark` returns them.

    Returns:
        Markdown: tables and a legend.
    """
    parts = []
    together = "all queries of a task at once" if "tasks" in cells[0] else "all queries at once"
    shares = sorted({cell.get("unseen", 0.0) for cell in cells})
    for transductive, title in ((False, "Inductive methods"), (True, f"Transductive methods ({together})")):
        for share in shares:
            place = (transductive, share)
            chosen = [cell for cell in cells if (cell["transductive"], cell.get("unseen", 0.0)) == place]
            if chosen:
                more = f", {100 * share:g} % of the classes without shots" if len(shares) > 1 else ""
                parts.append(f"### {title}{more}\n\n{_pivot(chosen)}")
    parts.append(_legend(cells))
    return "\n\n".join(parts)


def _legend(cells: Sequence[dict[str, Any]]) -> str:
    seeds, first = len({cell["seed"] for cell in cells}), cells[0]
    over = [f"{seeds} seeds"] if seeds > 1 else []
    over += [f"{first['tasks']} tasks"] if "tasks" in first else []
    mean = f"mean over {' of '.join(over)} ± half-width of its 95 % confidence interval (Student's t)"
    parts = [f"Top-1 in percent: {mean if over else 'one draw of the shots'}."]
    if any("ece" in cell for cell in cells):
        parts.append(
            f"ECE: expected calibration error in percent ({BINS} bins) of probabilities calibrated on held-out shots."
        )
    if "unseen" in first:
        parts.append(_legend_of_groups(sorted({cell["unseen"] for cell in cells}), first["protocol"]))
    if "tasks" in first:
        parts.append(_legend_of_tasks(cells))
    return " ".join(parts)


def _legend_of_groups(shares: Sequence[float], protocol: str) -> str:
    """What base and new mean under a protocol."""
    share = ", ".join(f"{100 * share:g}" for share in shares)
    what = f"The last {share} % of the classes have no shots (new), the others have (base); H is their harmonic mean."
    if protocol == "base-to-new":
        return (
            f'{what} Base-to-new protocol: each group competes within itself, difference = base − new; under "all" all '
            "classes compete for every photo."
        )
    return f"{what} Generalised zero-shot protocol: all classes compete for every photo."


def _legend_of_tasks(cells: Sequence[dict[str, Any]]) -> str:
    """What the tasks are, and why they are drawn in two ways."""
    sizes = {cell["dataset"]: (cell["queries"], cell["resampled_queries"]) for cell in cells}
    of = ", ".join(f"{size:.0f} and {smaller:.0f} ({dataset})" for dataset, (size, smaller) in sizes.items())
    return (
        f"A task has queries of {cells[0]['effective_classes']} classes; all classes of the data set may be predicted. "
        "A transductive method gets the queries of a task at once. They are about equally many of each class, which "
        'can flatter a method that balances its predictions. Under "drawn shares" the class of each query is drawn '
        "independently, from class shares that differ (Dirichlet distribution with parameter 2), until a class has no "
        f'photo left; "same size" has as many queries of the first draw. Mean number of queries in the two draws: {of}.'
    )


def _pivot(cells: Sequence[dict[str, Any]]) -> str:
    columns = sorted({(cell["dataset"], cell["shots"]) for cell in cells})
    quantities = quantities_of(cells[0]) | ({"ece": ", ECE"} if any("ece" in cell for cell in cells) else {})
    rows = []
    for method in sorted({cell["method"] for cell in cells}):
        row = [method]
        for dataset, shots in columns:
            place = (method, dataset, shots)
            found = [c for c in cells if (c["method"], c["dataset"], c["shots"]) == place]
            row += [_mean_of(found, key) for key in quantities]
        rows.append(row)
    header = [f"{dataset}, {shots}-shot{name}" for dataset, shots in columns for name in quantities.values()]
    return markdown_table(["method", *header], rows)


def quantities_of(cell: Mapping[str, Any]) -> dict[str, str]:
    """The quantities of a cell that tables show, and how their columns are called."""
    if "resampled" in cell:
        return {"top1": "", "same_size": ", same size", "resampled": ", drawn shares"}
    if "harmonic" not in cell:
        return {"top1": ""}
    groups = {"base": ", base", "new": ", new", "harmonic": ", H"}
    return {**groups, "difference": ", difference", "top1": ", all"} if "difference" in cell else groups


def mean_and_half(cells: Sequence[Mapping[str, Any]], key: str) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval: over the seeds, or over one seed's tasks; NaN without tasks."""
    mean, half = mean_interval([cell[key] for cell in cells])
    return mean, cells[0].get(f"{key}_interval", half) if np.isnan(half) else half


def _mean_of(cells: Sequence[dict[str, Any]], key: str) -> str:
    """Mean and interval; a dash where there are no cells, or one of an older version without this quantity."""
    if not all(key in cell for cell in cells) or not cells:
        return "–"
    mean, half = mean_and_half(cells, key)
    return f"{mean:.1f}" if np.isnan(half) else f"{mean:.1f} ± {half:.1f}"


_KINDS = {
    "zero-shot": "#1a202c",
    "training-free": "#2f855a",
    "trained on features": BLUE,
    "trained through CLIP": "#6b46c1",
    "transductive": ORANGE,
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


def interval_of(cells: Sequence[Mapping[str, Any]]) -> tuple[float, float, float]:
    """Mean top-1 and the ends of its 95 % interval: over seeds or tasks (t), or over queries (Wilson) if known."""
    mean, half = mean_and_half(cells, "top1")
    if not np.isnan(half):
        return mean, mean - half, mean + half
    queries = int(cells[0].get("queries", 0))
    if not queries:
        return mean, mean, mean
    low, high = wilson_interval(round(mean / 100 * queries), queries)
    return mean, 100 * low, 100 * high


def benchmark_picture(cells: Sequence[dict[str, Any]]) -> bytes:
    """Draw top-1 of every method, or base and new over several shares of classes without shots; a panel per data set.

    Args:
        cells: As `benchmark.run_benchmark` returns them. Methods are grouped by kind and sorted by top-1 at the most
            shots, whose value and 95 % interval are drawn; fewer shots are paler dots. A dashed line is zero-shot.

    Returns:
        A PNG.
    """
    return png(benchmark_figure(cells))


def benchmark_figure(cells: Sequence[dict[str, Any]]) -> Figure:
    """The figure of `benchmark_picture`."""
    from matplotlib.figure import Figure

    datasets = sorted({cell["dataset"] for cell in cells})
    if len({cell.get("unseen") for cell in cells}) > 1:
        return _shares_figure(cells, datasets)
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


def _shares_figure(cells: Sequence[dict[str, Any]], datasets: Sequence[str]) -> Figure:
    """Base and new of every method, at the most shots, over the share of classes without shots."""
    from matplotlib.figure import Figure

    methods = sorted({cell["method"] for cell in cells})
    figure = Figure(figsize=(5 * len(datasets) + 2, 4), layout="constrained")
    for axes, dataset in zip(figure.subplots(1, len(datasets), squeeze=False)[0], datasets, strict=True):
        here = [cell for cell in cells if cell["dataset"] == dataset]
        shots = max(cell["shots"] for cell in here)
        shares = sorted({cell["unseen"] for cell in here})
        for number, method in enumerate(methods):
            for key, style in (("base", "--"), ("new", "-")):
                place = [cell for cell in here if (cell["method"], cell["shots"]) == (method, shots)]
                groups = [[cell[key] for cell in place if cell["unseen"] == share] for share in shares]
                points = [(100 * share, np.mean(group)) for share, group in zip(shares, groups, strict=True) if group]
                label = f"{method}, {key}" if axes is figure.axes[0] else None
                axes.plot(*zip(*points, strict=True), style, marker="o", color=f"C{number % 10}", label=label)
        axes.set_title(f"{dataset}, {shots}-shot")
        axes.set_xlabel("classes without shots in %")
        axes.set_ylabel("top-1 in %")
        axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def _draw_ranking(axes: Any, cells: Sequence[dict[str, Any]]) -> None:
    """Draw one data set: a row per method below a row with the name of its kind."""
    counts = sorted({cell["shots"] for cell in cells})
    found: dict[str, dict[int, tuple[float, float, float]]] = {}
    for method in {cell["method"] for cell in cells}:
        mine = [cell for cell in cells if cell["method"] == method]
        groups = {count: [cell for cell in mine if cell["shots"] == count] for count in counts}
        found[method] = {count: interval_of(group) for count, group in groups.items() if group}
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
        axes.axvline(reference, color=GREY, linewidth=1, linestyle="--", zorder=0)
    shots = f"{', '.join(map(str, counts))} shots per class{' (pale to dark)' if len(counts) > 1 else ''}"
    axes.set_xlabel(f"top-1 in %, {shots}; bars: 95 % intervals", fontsize=9)
    axes.grid(axis="x", alpha=0.3)
