"""Compare scores that say whether a photo is of one of the classes: results/reject-scores.csv and .md.

    python -m benchmarks.reject_scores caltech_pair.npz open_domain374.npz

Each seed draws the shots and a share of the classes that the methods do not know: neither their shots nor their names.
Their test photos are the unknown ones. The threshold of each score is chosen on held-out shots as
`Calibration.threshold` does, so that 5 % of the photos of the classes may be refused; the default hyper-parameters are
used.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors
from benchmarks.results import write_results
from jclip_adapter.core.calibration import Calibration, certainty
from jclip_adapter.core.task import FewShotTask, Labelled, Queries, class_means, normalise, softmax
from jclip_adapter.evaluation.benchmark import Problem, choose_methods, feature_problems
from jclip_adapter.evaluation.calibration import held_out, temperature
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.methods import Method, create
from jclip_adapter.methods.training.folds import folds
from jclip_adapter.storage import read_lines

Floats = npt.NDArray[np.float64]
RESULTS = ROOT / "results" / "reject-scores"
METHODS = "zero-shot,tip-adapter,proker,jclip-adapter,clap,uni-modal-linear,lp-plus-plus"
RATE = 0.05
CHOSEN = "entropy"
COLUMNS = (
    *("dataset", "classes", "shots", "seed", "method", "score", "auroc", "passing_at_rate"),
    *("kept", "passing", "expected_passing"),
)


def known_part(task: FewShotTask, known: npt.NDArray[np.int64]) -> FewShotTask:
    """The task of some classes, given by ascending indices."""
    rows = task.keep(np.isin(task.support_labels, known))
    return replace(
        rows,
        support_labels=np.searchsorted(known, rows.support_labels),
        text_features=task.text_features[known],
        text_raw=None if task.text_raw is None else task.text_raw[known],
        text_views=tuple(task.text_views[index] for index in known) if task.text_views else (),
        class_names=tuple(task.class_names[index] for index in known),
        domains=tuple(task.domains[index] for index in known) if task.domains else (),
        validation=None,
    )


def _without(scores: Floats, labels: npt.NDArray[np.int64] | None) -> Floats:
    """(M, C) scores, or (M, C − 1) without each photo's own class."""
    if labels is None:
        return scores
    others = np.arange(scores.shape[1]) != labels[:, None]
    return scores[others].reshape(len(scores), -1)


def _margin(scores: Floats) -> Floats:
    first_two = np.sort(scores, axis=1)[:, -2:]
    return np.asarray(first_two[:, 1] - first_two[:, 0])


def scores_of(
    logits: npt.ArrayLike, queries: Queries, task: FewShotTask, labels: npt.NDArray[np.int64] | None = None
) -> dict[str, Floats]:
    """Scores by name, each (M,): the larger, the more likely is a photo of one of the classes.

    Args:
        logits: (M, C), divided by the temperature.
        queries: The photos.
        task: What the method was fitted to, for class means and texts.
        labels: (M,) classes to be left out, each for its own photo; None for none.
    """
    from scipy.special import logsumexp

    means = normalise(class_means(task.support_features, task.support_labels, task.num_classes))
    scaled = _without(np.asarray(logits, dtype=np.float64), labels)
    near = _without(queries.features @ means.T, labels)
    text = _without(task.logit_scale * (queries.features @ task.text_features.T), labels)
    shares = softmax(scaled)
    return {
        "entropy": certainty(shares),
        "maximum probability": shares.max(axis=1),
        "margin of the probabilities": _margin(shares),
        "margin of the logits": _margin(scaled),
        "maximum logit": scaled.max(axis=1),
        "maximum logit above the mean": scaled.max(axis=1) - scaled.mean(axis=1),
        "the same in standard deviations": (scaled.max(axis=1) - scaled.mean(axis=1)) / scaled.std(axis=1),
        "energy": logsumexp(scaled, axis=1),
        "nearest class mean": near.max(axis=1),
        "nearest text": text.max(axis=1),
        "margin of the texts": _margin(text),
        "zero-shot probability": softmax(text).max(axis=1),
    }


def auroc(known: Floats, unknown: Floats) -> float:
    """Probability that a photo of the classes scores above an unknown one; half for equal scores."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([known, unknown]))[: len(known)]
    return float((ranks.sum() - len(known) * (len(known) + 1) / 2) / len(known) / len(unknown))


def held_out_scores(method: Method, task: FewShotTask) -> tuple[float, dict[str, Floats], dict[str, Floats]]:
    """The temperature, and the scores of held-out shots with all classes and without their own."""
    found = held_out(method, task)
    if found is None:
        raise ValueError(f"{method.meta.name} has no held-out shots")
    parts: list[tuple[FewShotTask, Labelled]] = []
    for part in folds(task):
        if sum(len(held.labels) for _, held in parts) < len(found.labels):
            parts.append(part)
    logits = found.logits
    if not method.uses_shots:  # its shots are not in the order of the folds
        logits = np.concatenate([method.logits(held.queries) for _, held in parts])
    labels = np.concatenate([held.labels for _, held in parts])
    scale = temperature(logits, labels)
    split = np.split(logits / scale, np.cumsum([len(held.labels) for _, held in parts])[:-1])
    both = []
    for left_out in (False, True):
        each = [
            scores_of(rows, held.queries, part, held.labels if left_out else None)
            for rows, (part, held) in zip(split, parts, strict=True)
        ]
        both.append({name: np.concatenate([scores[name] for scores in each]) for name in each[0]})
    return scale, both[0], both[1]


def score(problem: Problem, share: float, name: str) -> Iterator[dict[str, Any]]:
    """Rows of COLUMNS: one per score."""
    classes = problem.task.num_classes
    order = np.random.default_rng(problem.seed).permutation(classes)
    known = np.sort(order[int(share * classes) :])
    task = known_part(problem.task, known)
    method = create(name, seed=problem.seed).fit(task)
    scale, of_shots, of_shots_without = held_out_scores(method, task)
    found = scores_of(method.logits(problem.test.queries) / scale, problem.test.queries, task)
    is_known = np.isin(problem.test.labels, known)
    for kind, values in found.items():
        threshold = Calibration(scale, known=of_shots[kind].astype(np.float32)).threshold(RATE)
        inside, outside = values[is_known], values[~is_known]
        measured = {
            "auroc": auroc(inside, outside),
            "passing_at_rate": (outside >= np.quantile(inside, RATE)).mean(),
            "kept": (inside >= threshold).mean(),
            "passing": (outside >= threshold).mean(),
            "expected_passing": (of_shots_without[kind] >= threshold).mean(),
        }
        facts = (problem.dataset, len(known), problem.shots, problem.seed, name, kind)
        yield dict(zip(COLUMNS, facts, strict=False)) | {key: f"{100 * value:.2f}" for key, value in measured.items()}


def _mean(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    return f"{np.mean([float(row[key]) for row in rows]):.1f}"


def table(rows: Sequence[Mapping[str, Any]], share: float) -> str:
    """Markdown: per file the scores over all methods, and the chosen score by method."""
    seeds = len({row["seed"] for row in rows})
    keys = ("auroc", "passing_at_rate", "kept", "passing", "expected_passing")
    header = ["AUROC", "pass at 95 % kept", "kept", "pass", "expected to pass"]
    parts = [
        "# Scores for photos of none of the classes\n\n"
        f"{100 * share:g} % of the classes, drawn by each of {seeds} seeds, are unknown to the methods. Percent, mean "
        "over seeds"
    ]
    parts[0] += (
        f'. "pass at 95 % kept": unknown photos that are not refused where the threshold keeps 95 % of the test photos '
        f"of the classes. The other columns have the threshold from held-out shots, where {100 * RATE:g} % may be "
        'refused: "kept" and "pass" are shares of the test photos, "expected to pass" is what the held-out shots say '
        "about unknown photos, each without its own class.\n"
    )
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        here = [row for row in rows if row["dataset"] == dataset]
        lines = []
        for kind in dict.fromkeys(row["score"] for row in here):
            own = [row for row in here if row["score"] == kind]
            lines.append([kind, *(_mean(own, key) for key in keys)])
        lines.sort(key=lambda line: -float(line[1]))
        methods = []
        for name in dict.fromkeys(row["method"] for row in here):
            own = [row for row in here if (row["method"], row["score"]) == (name, CHOSEN)]
            methods.append([name, *(_mean(own, key) for key in keys)])
        size = f"{here[0]['classes']} known classes, {here[0]['shots']} shots"
        parts += [
            f"## {dataset}, {size}: the scores, mean over the methods\n\n{markdown_table(['score', *header], lines)}\n",
            f"## {dataset}: {CHOSEN}, by method\n\n{markdown_table(['method', *header], methods)}\n",
        ]
    return "\n".join(parts)


def quoted() -> str:
    """Markdown from results/reject-scores.csv: per score and file the mean over seeds and methods."""
    rows = list(csv.DictReader(read_lines(RESULTS.with_suffix(".csv"))))
    files = list(dict.fromkeys(row["dataset"] for row in rows))
    keys = {"auroc": "AUROC", "kept": "kept", "passing": "pass", "expected_passing": "expected"}
    lines = []
    for kind in dict.fromkeys(row["score"] for row in rows):
        own = [row for row in rows if row["score"] == kind]
        lines.append([kind, *(_mean([r for r in own if r["dataset"] == name], key) for name in files for key in keys)])
    lines.sort(key=lambda line: -float(line[1]))
    return markdown_table(["score", *(f"{name}: {text}" for name in files for text in keys.values())], lines)


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reject_scores", description="Compare scores.")
    parser.add_argument("files", nargs="+", metavar="FILE.npz", help="feature files")
    parser.add_argument("--shots", type=int, default=4, help="shots per class (default: 4)")
    parser.add_argument("--seeds", type=int, default=5, help="number of draws (default: 5)")
    parser.add_argument("--share", type=float, default=0.3, help="share of unknown classes (default: 0.3)")
    parser.add_argument("--method", default=METHODS, help=f"names, separated by commas (default: {METHODS})")
    given = parser.parse_args(argv)
    problems = feature_problems(given.files, [given.shots], range(1, given.seeds + 1), resample=True)
    jobs = [(problem, name) for problem in problems for name in choose_methods(given.method)]
    rows = [
        row
        for problem, name in tqdm(jobs, desc="reject scores", unit="fit")
        for row in score(problem, given.share, name)
    ]
    write_results(RESULTS, rows, COLUMNS, table(rows, given.share))
    return 0


if __name__ == "__main__":
    sys.exit(main())
