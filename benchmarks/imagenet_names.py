"""Compare rules by which an ImageNet network's classes score a data set's: results/imagenet-names.csv and .md.

    python -m benchmarks.imagenet_names CONTEST

CONTEST is a folder in the contest's layout whose test photos have labels. The rules use no photo, so the training
photos are held out as the test photos are. The rule was chosen by the training photos' rows.

- sum: probabilities of a class's ImageNet classes; one of several classes is shared in inverse proportion to their
  numbers of ImageNet classes.
- mean logit: of a class's ImageNet classes. Classes without any are never predicted.
- mean: of their probabilities.
- sum/√n: their sum over the square root of their number (`training.imagenet_head`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import ROOT, reports_user_errors
from benchmarks.results import write_results
from jclip_adapter.core.task import ImageNetHead
from jclip_adapter.data.sets import find_labels, load_dataset
from jclip_adapter.evaluation.metrics import by_domain
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.features.encoding import encode_photos
from jclip_adapter.methods.training.imagenet_head import imagenet_scores
from jclip_adapter.models.backbones import KNOWN
from jclip_adapter.models.backbones.encoder import load_backbone

RESULTS = ROOT / "results" / "imagenet-names"
COLUMNS = ("network", "photos", "rule", "domain", "count", "top1")
Floats = npt.NDArray[Any]


def shared(head: ImageNetHead) -> Floats:
    """(K, C) weights of the rule "sum"."""
    share = head.matrix**2  # 1/n
    total = share.sum(axis=1, keepdims=True)
    return np.asarray(share / np.where(total > 0, total, 1))


def mean_logits(logits: Floats, head: ImageNetHead) -> Floats:
    """(M, C) scores of the rule "mean logit"."""
    scores = logits @ head.matrix**2
    scores[:, ~head.matrix.any(axis=0)] = scores.min() - 1
    return np.asarray(scores)


RULES: dict[str, Callable[[Floats, ImageNetHead], Floats]] = {
    "sum": lambda logits, head: imagenet_scores(logits, shared(head)),
    "mean logit": mean_logits,
    "mean": lambda logits, head: imagenet_scores(logits, head.matrix**2),
    "sum/√n": lambda logits, head: imagenet_scores(logits, head.matrix),
}


def measure(data: str, network: str, cache: Path) -> list[dict[str, Any]]:
    """Rows of COLUMNS of one network.

    Args:
        data: The contest's folder.
        network: One of `backbones.KNOWN`.
        cache: For the photos' features.
    """
    dataset = load_dataset(data)
    names, domains = ([getattr(info, key) for info in dataset.classes] for key in ("name", "domain"))
    encoder = load_backbone(network, "cpu", cache=cache)
    head = encoder.imagenet_head(names, domains)
    rows = []
    answers = find_labels(dataset)
    for which, photos, labels in (
        ("training", dataset.train, [photo.label for photo in dataset.train]),
        ("test", dataset.test, [answers[photo.relative] for photo in dataset.test]),
    ):
        features = encode_photos(encoder, [photo.path for photo in photos], cache)
        logits = features.raw @ head.weight.T + head.bias
        for rule, scored in RULES.items():
            for score in by_domain(scored(logits, head), np.asarray(labels), domains, features.readable):
                facts = {"network": network, "photos": which, "rule": rule, "domain": score.domain, "count": score.n}
                rows.append({**facts, "top1": f"{100 * score.top1:.2f}"})
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Top-1 by domain, a line per network, photos and rule."""
    domains = list(dict.fromkeys(row["domain"] for row in rows))
    lines = []
    for key in dict.fromkeys((row["network"], row["photos"], row["rule"]) for row in rows):
        found = {row["domain"]: row for row in rows if (row["network"], row["photos"], row["rule"]) == key}
        lines.append([*key, *(f"{float(found[domain]['top1']):.1f} %" for domain in domains)])
    head = ["network", "photos", "rule", *domains]
    return f"# Top-1 by ImageNet's class names alone\n\n{markdown_table(head, lines)}\n"


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user's.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imagenet_names", description="Compare the rules.")
    parser.add_argument("data", metavar="CONTEST", help="a folder in the contest's layout with labelled test photos")
    data = parser.parse_args(argv).data
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for network in KNOWN for row in measure(data, network, Path(folder))]
    write_results(RESULTS, rows, COLUMNS, table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
