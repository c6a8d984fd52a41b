"""Measure `two-views` on features of both networks, beside the best on either alone: results/two-views.csv and .md.

    python -m benchmarks.two_views PAIR.npz

PAIR is a feature file with a second network's features (docs/design.md), EfficientNet-Lite0's. The best method on CLIP
alone is the best of all in results/benchmark.csv, picked by its test accuracy; two-views is as it is by default. What
"names" add is what that network's ImageNet classes mean of the file's.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors
from benchmarks.results import write_results
from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import FewShotTask, Queries, normalise
from jclip_adapter.evaluation.metrics import accuracy
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.features.file import FeatureFile, read_feature_file
from jclip_adapter.methods import create
from jclip_adapter.models.backbones.encoder import load_backbone
from jclip_adapter.storage import read_lines

RESULTS = ROOT / "results" / "two-views"
NETWORK = "efficientnet-lite0"
BOTH = ("two-views", "amu-tuning")
ALONE = ("linear-probe", "gda", "lp-plus-plus", "tip-adapter", "jclip-adapter", "uni-modal-linear")
COLUMNS = ("what", "method", "shots", "top1")
TITLES = ("zero-shot", "zero-shot and names", "best on CLIP alone", f"best on {NETWORK} alone")


def second_alone(task: FewShotTask, queries: Queries) -> tuple[FewShotTask, Queries]:
    """The second network's features in place of CLIP's, and prototypes in place of texts."""
    if task.auxiliary is None or queries.auxiliary is None:
        raise DataError("the file has no features of a second network.", "Extract them with --auxiliary.")
    rows, asked = normalise(task.auxiliary), normalise(queries.auxiliary)
    bare = dataclasses.replace(
        task,
        support_features=rows,
        support_raw=task.auxiliary,
        text_features=rows[:1].repeat(task.num_classes, axis=0),
        text_raw=None,
        auxiliary=None,
        logit_scale=load_backbone(NETWORK, "cpu").logit_scale,
    )
    return bare.with_prototypes(), Queries(asked, queries.auxiliary)


def measure(content: FeatureFile, others: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    """Rows of COLUMNS.

    Args:
        content: The file.
        others: Rows of results/benchmark.csv.
    """
    encoder = load_backbone(NETWORK, "cpu")
    rows: list[dict[str, Any]] = []
    queries, labels = content.test.queries, content.test.labels

    def top1(name: str, task: FewShotTask, asked: Queries, **values: Any) -> float:
        return round(100 * accuracy(create(name, **values).fit(task).logits(asked), labels), 2)

    def add(what: str, method: str, shots: int, found: float) -> None:
        rows.append({"what": what, "method": method, "shots": shots, "top1": found})

    for shots, task in tqdm(content.tasks.items(), desc="two views", unit="shots"):
        named = dataclasses.replace(task, imagenet_head=encoder.imagenet_head(task.class_names, task.domains))
        add(TITLES[0], "zero-shot", shots, top1("zero-shot", task, queries))
        add(TITLES[1], "zero-shot", shots, top1("zero-shot", named, queries, names=0.5))
        clip = [row for row in others if row["shots"] == str(shots) and row["method"] not in BOTH]
        best = max(clip, key=lambda row: float(row["top1"]))
        add(TITLES[2], best["method"], shots, round(float(best["top1"]), 2))
        alone, asked = second_alone(task, queries)
        found = {name: top1(name, alone, asked) for name in ALONE}
        name = max(found, key=lambda each: found[each])
        add(TITLES[3], name, shots, found[name])
        for method in reversed(BOTH):
            add(method, method, shots, top1(method, task, queries))
        add("two-views and names", "two-views", shots, top1("two-views", named, queries))
    return rows


def table(rows: Sequence[dict[str, Any]], name: str) -> str:
    """Top-1 by shots."""
    shots = sorted({row["shots"] for row in rows})
    lines = []
    for what in dict.fromkeys(row["what"] for row in rows):
        cells = []
        for count in shots:
            (row,) = (row for row in rows if row["what"] == what and row["shots"] == count)
            by = f" ({row['method']})" if what.startswith("best") else ""
            cells.append(f"{row['top1']:.1f} %{by}")
        lines.append([what, *cells])
    head = ["", *(f"{count} shot{'s' if count > 1 else ''}" for count in shots)]
    return f"# Top-1 on {name}: CLIP and {NETWORK}\n\n{markdown_table(head, lines)}\n"


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user's.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.two_views", description="Measure two-views.")
    parser.add_argument("pair", metavar="PAIR.npz", help="a feature file with both networks' features")
    path = Path(parser.parse_args(argv).pair)
    content = read_feature_file(path)
    others = [
        row for row in csv.DictReader(read_lines(ROOT / "results" / "benchmark.csv")) if row["dataset"] == content.name
    ]
    if not others:
        raise DataError(f"results/benchmark.csv has no rows of {content.name}.", "Run --benchmark on it first.")
    rows = measure(content, others)
    write_results(RESULTS, rows, COLUMNS, table(rows, content.name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
