"""The parts of a run's report: evaluation, predictions, training."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from jclip_adapter.data.photos.reading import Reading
from jclip_adapter.data.predictions import Predictions
from jclip_adapter.data.sets import ImageSet, Photo
from jclip_adapter.evaluation.metrics import confusion_matrix, wilson_interval, worst_pairs

from .cards import Card, Group, thumbnails_of
from .report import render, texts_of

PHOTOS = 24
"""Photos of a section, such as the most certain errors."""
_PAIRS, _OF_PAIR = 12, 6  # confusions, and photos of each
_CLASSES = 500  # rows of the table of classes
_UNREADABLE = 100
_SHOT_CLASSES, _SHOTS = 60, 4  # classes whose shots are shown, and shots of each
_SIDE, _SMALL = 144, 72  # of thumbnails in pixels
# Bytes of a part's thumbnails: with tables and pictures the report stays below 5 MB.
_BUDGET = {"evaluation": 1_800_000, "prediction": 600_000, "training": 1_100_000}
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Context:
    """What all parts need.

    Attributes:
        language: A key of `texts.LANGUAGES`.
        images: The data set.
        reading: How photo files are read.
        method: The method's name.
        command: The command line that makes the part again.
    """

    language: str
    images: ImageSet
    reading: Reading
    method: str
    command: str

    def text(self, key: str, **values: Any) -> Markup:
        """A text as markup."""
        return texts_of(self.language, f"{self.images.kind}s")[1](key, **values)

    def render(self, part: str, cards: Iterable[Card], small: Iterable[Card] = (), **values: Any) -> str:
        """A part with thumbnails of its photos; small ones where they are only shown so. Sounds have none."""
        thumbnails: dict[Path, str] = {}
        if self.images.kind == "photo":
            most = _BUDGET[part]
            thumbnails = thumbnails_of(cards, _SIDE, most, self.reading)
            most -= sum(map(len, thumbnails.values()))
            others = [card for card in small if card.path not in thumbnails]
            thumbnails |= thumbnails_of(others, _SMALL, most, self.reading)
        shared = {"thumbnails": _Addresses(thumbnails), "method": self.method, "command": self.command}
        return render(part, self.language, f"{self.images.kind}s", **shared, **values)


class _Addresses(dict[Path, str]):
    """Thumbnails by path; empty for a photo without."""

    def __missing__(self, _: Path) -> str:
        return ""


def png_uri(png: bytes) -> str:
    """A PNG as the address of an `<img>`."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


@dataclass(frozen=True)
class _ClassRow:
    """Accuracy of one class, in percent."""

    name: str
    count: int
    top1: float
    low: float
    high: float
    mistake: str


class _Rows:
    """The M readable of N photos with their predictions."""

    def __init__(self, paths: Sequence[Path], found: Predictions) -> None:
        self.places = [place for place in range(len(found.paths)) if place not in found.errors]
        self.paths, self.found = paths, found
        self.best = found.best[:, 0]
        self.share = found.probabilities[np.arange(len(self.best)), self.best]

    def card(self, row: int, guesses: int = 1) -> Card:
        """The card of a readable photo."""
        place, names = self.places[row], self.found.class_names
        shares = self.found.probabilities[row]
        best = self.found.best[row, :guesses].tolist()
        truth = "" if self.found.truth is None else self.found.truth[place]
        pairs = tuple((names[index], float(shares[index])) for index in best)
        return Card(self.paths[place], self.found.paths[place], pairs, truth)

    def least_certain(self, among: npt.NDArray[np.bool_] | None = None) -> Group:
        """The photos of which the method is least certain."""
        rows = np.argsort(self.share, kind="stable")
        rows = rows if among is None else rows[among[rows]]
        return Group([self.card(row, 2) for row in rows[:PHOTOS].tolist()], len(rows))

    def rejected(self) -> Group:
        """The photos that are of none of the classes; none if that was not asked."""
        return Group((), 0) if self.found.known is None else self.least_certain(~self.found.known)

    def unreadable(self) -> Group:
        """Names of the photos that cannot be read, and why."""
        bad = [(self.found.paths[place], reason) for place, reason in self.found.errors.items()]
        return Group(bad[:_UNREADABLE], len(bad))


def evaluation_part(
    context: Context, photos: Sequence[Photo], found: Predictions, report: Mapping[str, Any], pictures: Sequence[bytes]
) -> str:
    """The part of an evaluation.

    Args:
        context: What all parts need.
        photos: N scored photos.
        found: Their predictions, with the truth.
        report: Content of evaluation.json.
        pictures: The confusion matrix and the reliability diagram, as PNGs.

    Returns:
        HTML.
    """
    rows = _Rows([photo.path for photo in photos], found)
    truth = np.array([photo.label for photo in photos], dtype=np.int64)
    own = truth[rows.places]
    wrong = np.flatnonzero(rows.best != own)
    wrong = wrong[np.argsort(-rows.share[wrong], kind="stable")]
    errors = Group([rows.card(row, 2) for row in wrong[:PHOTOS].tolist()], len(wrong))
    confusion = confusion_matrix(own, rows.best, len(found.class_names))
    totals = np.bincount(truth, minlength=len(found.class_names))
    pairs = _pairs(rows, own, confusion, totals)
    uncertain, rejected = rows.least_certain(), rows.rejected()
    classes = _classes(found.class_names, confusion, totals)
    total, baseline = report["scores"][-1], report["zero_shot"]
    return context.render(
        "evaluation",
        [card for group in (errors, uncertain, rejected) for card in group.cards],
        [card for pair in pairs for card in pair["cards"]],
        on_test=photos[0].relative in context.images.test_names,
        scores=report["scores"],
        total=total,
        baseline=baseline[-1] if baseline else None,
        baseline_name=report["baseline"],
        lines=_remarks(context, report, pairs),
        error=report["calibration_error"],
        classes=Group(classes[:_CLASSES], len(classes)),
        curve=[_point(point) for point in report["learning_curve"]],
        pairs=pairs,
        confusion=png_uri(pictures[0]),
        errors=errors,
        uncertain=uncertain,
        rejected=rejected,
        reject=report["reject"].get("rate", 0.0) / 100,
        bad=rows.unreadable(),
        reliability=png_uri(pictures[1]),
    )


def _pairs(rows: _Rows, own: Ints, confusion: Ints, totals: Ints) -> list[dict[str, Any]]:
    """The most frequent confusions with their photos, the most certain first."""
    names = list(rows.found.class_names)
    found = []
    for pair in worst_pairs(confusion, names)[:_PAIRS]:
        true, predicted = names.index(pair.true), names.index(pair.predicted)
        here = np.flatnonzero((own == true) & (rows.best == predicted))
        here = here[np.argsort(-rows.share[here], kind="stable")]
        cards = [rows.card(row) for row in here[:_OF_PAIR].tolist()]
        total = int(totals[true])
        shown = {"true": pair.true, "predicted": pair.predicted, "cards": cards}
        found.append({**shown, "count": pair.count, "total": total, "share": 100 * pair.count / total})
    return found


def _classes(names: Sequence[str], confusion: Ints, totals: Ints) -> list[_ClassRow]:
    """The classes with photos, the lowest accuracy first."""
    wrong = confusion - np.diag(np.diag(confusion))
    found = []
    for label in np.flatnonzero(totals).tolist():
        count, right = int(totals[label]), int(confusion[label, label])
        low, high = wilson_interval(right, count)
        mistake = names[int(wrong[label].argmax())] if wrong[label].any() else ""
        found.append(_ClassRow(names[label], count, 100 * right / count, 100 * low, 100 * high, mistake))
    return sorted(found, key=lambda row: (row.top1, -row.count))


def _point(point: Mapping[str, Any]) -> dict[str, Any]:
    """A point of the learning curve in percent."""
    low, high = wilson_interval(point["correct"], point["tested"])
    return {**point, "top1": 100 * point["correct"] / point["tested"], "low": 100 * low, "high": 100 * high}


def _remarks(context: Context, report: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """Sentences of the summary."""
    overlap, refused = report["overlap"], report["reject"]
    lines = []
    if pairs:
        worst = {name: pairs[0][name] for name in ("true", "predicted", "count", "total")}
        lines.append(context.text("usual_confusion", **worst))
    if report["transductive"]:
        lines.append(context.text("is_transductive"))
    if "method" in report["seen_and_unseen"]:
        group = report["seen_and_unseen"]["method"]
        lines.append(context.text("groups", base=group["base"], new=group["new"]))
    if report["unreadable"]:
        lines.append(context.text("unreadable_count", count=report["unreadable"]))
    copies = overlap["identical"] + overlap["near_duplicates"]
    if copies:
        text = context.text("overlap", count=copies)
        if overlap["without"]:
            rest = list(overlap["without"].values())[-1]["scores"]
            text += " " + context.text("without_overlap", top1=rest["top1"])
        lines.append(text)
    if refused:
        low, high = refused["kept_interval"]
        lines.append(context.text("kept", rate=refused["rate"] / 100, kept=refused["kept"], low=low, high=high))
    return lines


def prediction_part(
    context: Context, paths: Sequence[Path], found: Predictions, result: str, reject: float | None
) -> str:
    """The part of a prediction.

    Args:
        context: What all parts need.
        paths: N files.
        found: Their predictions.
        result: The file that was written.
        reject: The value of --reject.

    Returns:
        HTML.
    """
    rows = _Rows(paths, found)
    uncertain, rejected = rows.least_certain(), rows.rejected()
    return context.render(
        "prediction",
        [*uncertain.cards, *rejected.cards],
        count=len(paths),
        result=result,
        uncertain=uncertain,
        rejected=rejected,
        reject=reject or 0.0,
        bad=rows.unreadable(),
    )


def training_part(
    context: Context, facts: Mapping[str, Any], metrics: Mapping[str, Any], shots: Sequence[Photo], curves: bytes
) -> str:
    """The part of a training.

    Args:
        context: What all parts need.
        facts: Content of run.json.
        metrics: Content of metrics.json.
        shots: The shots.
        curves: The training curves as PNG; empty for none.

    Returns:
        HTML.
    """
    names, places = context.images.class_names, {photo.relative: photo for photo in shots}
    groups: list[list[Card]] = [[] for _ in names]
    for photo in shots:
        if photo.label is not None:
            groups[photo.label].append(Card(photo.path, photo.relative, (), names[photo.label]))
    named = list(zip(names, groups, strict=True))[:_SHOT_CLASSES]
    classes = [{"name": name, "count": len(group), "cards": group[:_SHOTS]} for name, group in named]
    shown = [card for _, group in named for card in group[:_SHOTS]]
    doubtful = None
    if "doubtful" in metrics:
        listed = [one for one in metrics["doubtful"] if one["photo"] in places]
        cards = [
            Card(places[one["photo"]].path, one["photo"], ((one["fits_better"], 0.0),), one["class"])
            for one in listed[:PHOTOS]
        ]
        doubtful = Group(cards, len(listed))
    return context.render(
        "training",
        doubtful.cards if doubtful else (),
        shown,
        count=len(shots),
        classes=Group(classes, len(names)),
        weights=facts["settings"]["weights"],
        lines=_training_lines(context, metrics),
        curves=png_uri(curves) if curves else "",
        doubtful=doubtful,
        settings=_texts(facts["settings"], "--"),
        hyperparameters=_texts(facts.get("hyperparameters", {})),
        digests=_texts({name: facts[name] for name in facts if name.endswith(("_sha256", "_revision", "_parameters"))}),
        versions=_texts(facts["versions"]),
    )


def _training_lines(context: Context, metrics: Mapping[str, Any]) -> list[Markup]:
    """Sentences of the summary."""
    lines = []
    if "estimate" in metrics:
        estimate = metrics["estimate"]
        low, high = estimate["interval"]
        lines.append(context.text("estimate", top1=estimate["top1"], low=low, high=high, count=estimate["held_out"]))
    if "support" in metrics:
        before, after = metrics["support"]["zero_shot_top1"], metrics["support"]["trained_top1"]
        name = context.text(metrics["support"]["baseline"])
        lines.append(context.text("on_shots", trained=after, before=before, baseline=name))
    return lines


def _texts(values: Mapping[str, Any], mark: str = "") -> dict[str, str]:
    """Values as texts by name, without those that are not set."""
    unset: tuple[Any, ...] = (None, "", [], {}, ())
    named = {f"{mark}{name.replace('_', '-')}" if mark else name: value for name, value in values.items()}
    return {name: str(value) for name, value in named.items() if value is not False and value not in unset}
