"""Speed in words, a table and a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from statistics import median
from typing import Any

from jclip_adapter.evaluation.report import markdown_table

COLUMNS = ("task", "way", "batch", "count", "unit", "per_second", "seconds", "peak_mb", "rounds")
TITLES = {
    "encode": "decoded photos to features",
    "end_to_end": "photo files to features",
    "text": "prompts to features",
    "adapter": "epochs of the adapter, 374 classes, 4 shots",
    "product": "matrix products of 2048 by 2048",
    "lite": "decoded photos to EfficientNet-Lite0's features",
}
# Of ViT-B/32 for one photo, a multiply and an add counted as two: patches, and 12 blocks of 12·768² products for 50
# positions and attention; ours leaves out what the last block would compute of 49 of them.
WIDTH, POSITIONS, BLOCKS, PATCH = 768, 50, 12, 32
WHOLE = 2 * (49 * 3 * PATCH**2 * WIDTH + BLOCKS * (12 * POSITIONS * WIDTH**2 + 2 * POSITIONS**2 * WIDTH) + WIDTH * 512)
OURS = WHOLE - 2 * (10 * (POSITIONS - 1) * WIDTH**2 + 2 * (POSITIONS - 1) * POSITIONS * WIDTH)


def report(found: dict[str, Any]) -> str:
    """The results in words and tables."""
    rows = found["rows"]
    text = (
        f"# Speed on {found['processor']}, {found['device']}, {found['cores']} cores\n\n"
        "ViT-B/32's shapes, random weights. Ways took their turns; rates are of the median of "
        f"{rows[0]['rounds']} measurements, ratios medians of those within a round, as rounds differ. Features agree "
        f"with ours in float32 to a cosine of at least {min(found['cosines'].values()):.6f}.\n"
    )
    for task, title in TITLES.items():
        base = [row for row in rows if row["task"] == task]
        if not base:
            continue
        head = ["way", "shots" if task == "adapter" else "batch", f"{base[0]['unit']} per second", "of the first"]
        cells = [
            [row["way"], row["batch"] or "own choice", f"{row['per_second']:.1f}", f"{ratio(row, base[0]):.2f}"]
            for row in base
        ]
        if task == "end_to_end":
            head.append("of decoded photos")
            decoded = {(row["way"], row["batch"]): row for row in rows if row["task"] == "encode"}
            for row, line in zip(base, cells, strict=True):
                line.append(f"{ratio(row, decoded[row['way'], row['batch']]):.2f}")
        for row, line in zip(base, cells, strict=True):
            line.append(row["peak_mb"])
        text += f"\n## {title}\n\n{markdown_table([*head, 'peak in MB'], cells)}\n"
    text += limits(rows)
    rest = [row for row in rows if row["task"] not in TITLES]
    cells = [[row["task"], f"{row['seconds']:.2f}", row["peak_mb"]] for row in rest]
    text += "\n## Start-up and growth\n\nFeatures are stored where commands start.\n\n"
    text += markdown_table(["what", "seconds", "peak in MB"], cells) + "\n"
    if "long" in found:
        long = found["long"]
        text += (
            f"\n{long['count']} photos in one run ({long['way']}): {long['count'] / long['seconds']:.1f} per second; "
            f"{long['early_mb']:.0f} MB after the first 2,000, {long['late_mb']:.0f} MB at the end.\n"
        )
    return text


def ratio(row: dict[str, Any], other: dict[str, Any]) -> float:
    """The median, over rounds, of one way's rate by another's."""
    return median(a / b for a, b in zip(row["each"], other["each"], strict=True))


def limits(rows: Sequence[dict[str, Any]]) -> str:
    """How near encoding comes to the machine's own rate of matrix products."""
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["task"] == "product":
            kind = row["way"].split(", ")[1]
            best[kind] = max(best.get(kind, row), row, key=lambda each: each["per_second"])
    lines = []
    for row in rows:
        kind = row["way"].split(", ")[1] if ", " in row["way"] else "float32"
        if row["task"] == "encode" and kind in best:
            flop = (OURS if row["way"].startswith("ours") else WHOLE) / 1e9  # GFLOP, as of products
            done, share = row["per_second"] * flop, ratio(row, best[kind]) * flop
            most = best[kind]["per_second"]
            lines.append([row["way"], row["batch"] or "own choice", f"{done:.0f}", f"{most:.0f}", f"{share:.0%}"])
    head = ["way", "batch", "GFLOP/s while encoding", "GFLOP/s of products alone, the best way", "share"]
    return f"\n## How near the limit\n\n{markdown_table(head, lines)}\n" if lines else ""


def name_of(row: dict[str, Any]) -> str:
    """A bar's name."""
    batch = f", batches of {row['batch']}" if row["batch"] and row["task"] in ("encode", "end_to_end") else ""
    return f"{row['way']}{batch}"


def picture(found: dict[str, Any]) -> bytes:
    """Bars of all rates, a panel per task; a PNG."""
    from matplotlib.figure import Figure

    tasks = [task for task in TITLES if any(row["task"] == task for row in found["rows"])]
    figure = Figure(figsize=(9, 2.1 * len(tasks)), layout="constrained")
    for number, task in enumerate(tasks, 1):
        rows = [row for row in found["rows"] if row["task"] == task]
        axes = figure.add_subplot(len(tasks), 1, number)
        names = [name_of(row) for row in rows]
        colours = ["#2b6cb0" if row["way"].startswith("ours") else "#a0aec0" for row in rows]
        bars = axes.barh(range(len(rows)), [row["per_second"] for row in rows], color=colours)
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
        axes.set_yticks(range(len(rows)), names, fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_title(f"{TITLES[task]}, {rows[0]['unit']} per second", fontsize=9, loc="left")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
