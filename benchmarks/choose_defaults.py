"""Choose the defaults that no paper settles, on the shots of feature files, and write results/defaults.csv.

    python -m benchmarks.choose_defaults FILE.npz [FILE.npz …] [--method NAME,NAME]

Each candidate is fitted on three quarters of the 4 shots per class and scored on the left-out ones, in turn
(`jclip_adapter.evaluation.selection`); test photos are read but never used. The candidate with the best mean accuracy
over the files, and over the methods that share their defaults, is the default;
tests/benchmarks/test_defaults.py compares it with what the code declares.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors
from jclip_adapter.core.errors import DataError
from jclip_adapter.evaluation.report import csv_text
from jclip_adapter.evaluation.selection import score_candidates
from jclip_adapter.features.file import FeatureFile, read_feature_file
from jclip_adapter.methods import get
from jclip_adapter.storage import ANY, write_text

RESULT = ROOT / "results" / "defaults.csv"
SHOTS = 4
HEADER = ("method", "values", "dataset", "accuracy", "likelihood")


@dataclass(frozen=True)
class Question:
    """Values to choose between.

    Attributes:
        methods: Names of those that share the answer.
        axes: Values to try, by hyper-parameter; one value fixes it.
        searched: Hyper-parameters that users' own runs search anyway: tried at all values of their grids, so that
            the others are judged at their best, and kept out of the answer.
    """

    methods: tuple[str, ...]
    axes: dict[str, tuple[Any, ...]]
    searched: tuple[str, ...] = field(default=())


_LINEAR = ("cross-modal-adapter", "cross-modal-linear", "uni-modal-linear")
_CACHE = ("alpha", "beta")
QUESTIONS = (
    Question(("clip-adapter",), {"ratio": (0.1, 0.2, 0.5), "lr": (0.002, 0.02), "epochs": (20, 50)}),
    Question(_LINEAR, {"iterations": (100, 200, 400), "lr": (1e-4, 3e-4, 1e-3)}),
    Question(("cross-modal-wise-ft", "wise-ft"), {"lr": (1e-4, 3e-4, 1e-3, 3e-3)}),
    Question(
        ("dac",),
        {"variant": ("visual",), "lr": (1e-4, 3e-4, 1e-3), "temperature": (0.07, 0.1, 0.2)},
        _CACHE,
    ),
    Question(("dac",), {"variant": ("visual+text",), "text_lr": (3e-5, 1e-4, 3e-4, 1e-3)}, _CACHE),
    Question(("gda",), {"alpha": (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)}),
    Question(("jclip-adapter",), {"ratio": (0.1, 0.2, 0.4), "lr": (1e-4, 3e-4, 1e-3)}),
    Question(("lp-plus-plus",), {"epochs": (30, 60, 120, 300)}, ("alpha_factor",)),
    Question(("multimodal-adapter",), {"epochs": (5, 20), "lr": (5e-4, 2e-3, 5e-3)}),
    Question(("transclip",), {"gamma": (0.002, 0.01, 0.02, 0.2)}, ("lambda_few_shot",)),
)


def measure(question: Question, method: str, files: Sequence[FeatureFile]) -> list[dict[str, str]]:
    """Score a question's candidates for one of its methods on every file.

    Args:
        question: The question.
        method: The method.
        files: Feature files with a task of 4 shots.

    Returns:
        A row per candidate and file: HEADER, accuracy in percent.
    """
    fields = get(method).Hyper.__dataclass_fields__
    axes = question.axes | {name: fields[name].metadata["grid"] for name in question.searched}
    refit, free = ({k: v for k, v in axes.items() if fields[k].metadata["refit"] is kind} for kind in (True, False))
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for content in files:
        scores = score_candidates(method, replace(content.tasks[SHOTS], validation=None), refit, free)
        if scores is None:
            raise DataError(f"{content.name} has nothing that can be left out.")
        for values, accuracy, likelihood in zip(scores.candidates, scores.accuracy, scores.likelihood, strict=True):
            asked = json.dumps({key: value for key, value in values.items() if key not in question.searched})
            place = (asked, content.name)
            best[place] = max(best.get(place, (-1.0, -np.inf)), (float(accuracy), float(likelihood)))
    return [
        dict(zip(HEADER, (method, asked, dataset, f"{100 * score[0]:.2f}", f"{score[1]:.4f}"), strict=True))
        for (asked, dataset), score in best.items()
    ]


def answer(question: Question, rows: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    """The values with the best mean accuracy over files and methods; of equal ones the likeliest.

    Args:
        question: The question.
        rows: As `measure` returns them; others are skipped.
    """
    scores: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        values = json.loads(row["values"])
        asked = all(value in question.axes.get(key, ()) for key, value in values.items())
        if row["method"] in question.methods and asked and values.keys() == question.axes.keys():
            scores.setdefault(row["values"], []).append((float(row["accuracy"]), float(row["likelihood"])))
    best = max(scores, key=lambda asked: tuple(np.mean(scores[asked], axis=0)))
    result: dict[str, Any] = json.loads(best)
    return result


def read_rows() -> list[dict[str, str]]:
    """The rows measured so far."""
    return list(csv.DictReader(io.StringIO(RESULT.read_text("utf-8")))) if RESULT.is_file() else []


@reports_user_errors
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
    jobs = [(question, name) for question in QUESTIONS for name in question.methods if not wanted or name in wanted]
    files = [read_feature_file(path) for path in options.files]
    rows = [row for row in read_rows() if row["method"] not in {name for _, name in jobs}]
    for question, name in tqdm(jobs, unit="question"):
        rows += measure(question, name, files)
        _write(rows)
    for question in QUESTIONS:
        if not {row["method"] for row in rows}.isdisjoint(question.methods):
            print(", ".join(question.methods), answer(question, rows))
    return 0


def _write(rows: Sequence[dict[str, str]]) -> None:
    write_text(RESULT, csv_text(sorted(rows, key=lambda row: row["method"]), HEADER), ANY)


if __name__ == "__main__":
    sys.exit(main())
