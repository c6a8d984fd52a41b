"""Choose the defaults that no paper settles, on the shots of feature files, and write results/defaults.csv.

    python -m benchmarks.choose_defaults FILE.npz [FILE.npz …] [--method NAME,NAME]

Each candidate is fitted on three quarters of the 4 shots per class and scored on the left-out ones, in turn
(`jclip_adapter.selection`); test photos are read but never used. The candidate with the best mean accuracy over the
files is the default, and tests/test_defaults.py compares it with what the code declares.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from jclip_adapter.errors import AdapterError
from jclip_adapter.feature_file import FeatureFile, read_feature_file
from jclip_adapter.methods import get
from jclip_adapter.selection import score_candidates
from jclip_adapter.storage import write_text

RESULT = Path("results/defaults.csv")
SHOTS = 4
HEADER = ("method", "values", "dataset", "accuracy", "likelihood", "chosen")


@dataclass(frozen=True)
class Question:
    """Values to choose between.

    Attributes:
        method: Its name.
        axes: Values to try, by hyper-parameter; one value fixes it.
        searched: Hyper-parameters that users' own runs search anyway: tried at all values of their grids, so that
            the others are judged at their best, and kept out of the answer.
    """

    method: str
    axes: dict[str, tuple[Any, ...]]
    searched: tuple[str, ...] = field(default=())


QUESTIONS = (
    Question("clip-adapter", {"ratio": (0.1, 0.2, 0.5), "lr": (0.002, 0.02), "epochs": (20, 50)}),
    Question("cross-modal-adapter", {"iterations": (100, 200, 400), "lr": (1e-4, 3e-4, 1e-3)}),
    Question("cross-modal-linear", {"iterations": (100, 200, 400), "lr": (1e-4, 3e-4, 1e-3)}),
    Question("cross-modal-wise-ft", {"lr": (1e-4, 3e-4, 1e-3, 3e-3)}),
    Question(
        "dac", {"variant": ("visual",), "lr": (1e-4, 3e-4, 1e-3), "temperature": (0.07, 0.1, 0.2)}, ("alpha", "beta")
    ),
    Question("dac", {"variant": ("visual+text",), "text_lr": (3e-5, 1e-4, 3e-4, 1e-3)}, ("alpha", "beta")),
    Question("gda", {"alpha": (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)}),
    Question("jclip-adapter", {"ratio": (0.1, 0.2, 0.4), "lr": (1e-4, 3e-4, 1e-3)}),
    Question("lp-plus-plus", {"epochs": (30, 60, 120, 300)}, ("alpha_factor",)),
    Question("multimodal-adapter", {"epochs": (5, 20), "lr": (5e-4, 2e-3, 5e-3)}),
    Question("transclip", {"gamma": (0.002, 0.01, 0.02, 0.2)}, ("lambda_few_shot",)),
    Question("uni-modal-linear", {"iterations": (100, 200, 400), "lr": (1e-4, 3e-4, 1e-3)}),
    Question("wise-ft", {"lr": (1e-4, 3e-4, 1e-3, 3e-3)}),
)


def answer(question: Question, files: Sequence[FeatureFile]) -> list[dict[str, Any]]:
    """Score a question's candidates on every file.

    Args:
        question: The question.
        files: Feature files with a task of 4 shots.

    Returns:
        A row per candidate and file; "chosen" is 1 for the candidate with the best mean accuracy, the mean
        likelihood deciding between equal ones.
    """
    axes = dict(question.axes)
    fields = get(question.method).Hyper.__dataclass_fields__
    axes.update({name: fields[name].metadata["grid"] for name in question.searched})
    refit, free = ({k: v for k, v in axes.items() if fields[k].metadata["refit"] is kind} for kind in (True, False))
    rows: dict[str, dict[str, tuple[float, float]]] = {}
    for content in files:
        scores = score_candidates(question.method, replace(content.tasks[SHOTS], validation=None), refit, free)
        if scores is None:
            raise AdapterError(f"{content.name}: nothing can be left out.")
        for values, *score in zip(scores.candidates, scores.accuracy, scores.likelihood, strict=True):
            asked = json.dumps({key: value for key, value in values.items() if key not in question.searched})
            by_file = rows.setdefault(asked, {})
            by_file[content.name] = max(by_file.get(content.name, (-1.0, -np.inf)), (float(score[0]), float(score[1])))
    best = max(rows, key=lambda asked: tuple(np.mean(list(rows[asked].values()), axis=0)))
    return [
        {
            "method": question.method,
            "values": asked,
            "dataset": dataset,
            "accuracy": f"{100 * accuracy:.2f}",
            "likelihood": f"{likelihood:.4f}",
            "chosen": int(asked == best),
        }
        for asked, by_file in rows.items()
        for dataset, (accuracy, likelihood) in by_file.items()
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Choose and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user's.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.choose_defaults", description="Choose defaults on the shots of feature files."
    )
    parser.add_argument("files", nargs="+", metavar="FILE.npz", help="feature files with 4 shots per class")
    parser.add_argument("--method", default="", help="only these methods, separated by commas; the others' rows stay")
    options = parser.parse_args(argv)
    wanted = [name for name in options.method.split(",") if name]
    try:
        files = [read_feature_file(path) for path in options.files]
        asked = [question for question in QUESTIONS if not wanted or question.method in wanted]
        names = {question.method for question in asked}
        rows: list[dict[str, Any]] = []
        if RESULT.is_file():
            rows = [row for row in csv.DictReader(io.StringIO(RESULT.read_text("utf-8"))) if row["method"] not in names]
        for question in tqdm(asked, unit="question"):
            rows += answer(question, files)
            _write(rows)
    except AdapterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _write(rows: Sequence[dict[str, Any]]) -> None:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, HEADER, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda row: row["method"]))
    write_text(RESULT, buffer.getvalue())


if __name__ == "__main__":
    sys.exit(main())
