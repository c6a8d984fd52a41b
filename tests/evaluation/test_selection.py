from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from jclip_adapter.core.task import FewShotTask, Labelled, Queries, normalise
from jclip_adapter.evaluation import selection
from jclip_adapter.methods import create
from jclip_adapter.methods.base import Hyperparameters, Meta, Method, hyper
from jclip_adapter.methods.training.folds import folds
from tests.methods.conformance.worlds import world as conformance_world

FITS: list[int] = []


class Blend(Method):
    """(1 − share)·text + share·prototype: the share is read at scoring, the power needs another fit."""

    meta: ClassVar[Meta] = Meta("blend", "a test", "none", 2024, "nothing")

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        share: float = hyper(0.0, "share", low=0, high=1, grid=(0.0, 0.5, 1.0), refit=False)
        sign: float = hyper(1.0, "sign", grid=(1.0, -1.0))

    hyper: Hyper

    def _fit(self, task):
        FITS.append(len(task.support_labels))
        self.text_ = task.text_features
        rows = [task.support_features[task.support_labels == label] for label in range(task.num_classes)]
        means = [row.mean(axis=0) if len(row) else np.zeros(task.width) for row in rows]
        self.prototypes_ = self.hyper.sign * normalise(means)

    def _logits(self, queries):
        blended = (1 - self.hyper.share) * self.text_ + self.hyper.share * self.prototypes_
        return 100 * queries.features @ blended.T


@pytest.fixture(autouse=True)
def blend(monkeypatch):
    FITS.clear()
    monkeypatch.setattr(selection, "get", lambda name: Blend if name == "blend" else pytest.fail(name))


def world(shots=4, misled=False, classes=6, width=24):
    """Photos near their class's centre; texts are the centres, or those of other classes where misled."""
    rng = np.random.default_rng(0)
    centres = normalise(rng.standard_normal((classes, width)))
    labels = np.repeat(np.arange(classes), shots)
    features = normalise(centres[labels] + 0.05 * rng.standard_normal((len(labels), width)))
    text = np.roll(centres, 1, axis=0) if misled else centres
    return FewShotTask(features, labels, text, tuple(map(str, range(classes))))


def test_misleading_texts_are_found_out_on_the_shots():
    choice = selection.select("blend", world(misled=True))
    assert choice.values == {"share": 1.0, "sign": 1.0}
    assert (choice.source, choice.candidates) == ("support", 6)
    assert choice.accuracy == 1.0


def test_of_equally_accurate_candidates_the_more_likely_wins():
    choice = selection.select("blend", world())
    assert choice.accuracy == 1.0
    assert choice.values["sign"] == 1.0


def test_only_what_needs_it_is_fitted_again():
    selection.select("blend", world())
    assert len(FITS) == 4 * 2
    assert set(FITS) == {18}


def test_one_shot_leaves_the_defaults():
    choice = selection.select("blend", world(shots=1))
    assert (choice.values, choice.source, choice.candidates) == ({}, "defaults", 0)
    assert FITS == []


def test_given_values_are_kept():
    choice = selection.select("blend", world(misled=True), given={"share": 0.5})
    assert choice.values["share"] == 0.5
    assert choice.candidates == 2


def test_nothing_to_choose_is_nothing_to_do():
    choice = selection.select("blend", world(), given={"share": 0.5, "sign": 1.0})
    assert (choice.source, choice.candidates) == ("given", 0)
    assert FITS == []


def test_a_validation_set_is_used_where_there_is_one():
    task = world()
    misled = Labelled(Queries(np.roll(task.support_features, 4, axis=0)), task.support_labels)
    choice = selection.select("blend", replace(task, validation=misled))
    assert choice.source == "validation"
    assert set(FITS) == {24}


@pytest.mark.parametrize("shots", [2, 3, 4, 16])
def test_folds_hold_out_every_shot_once_and_keep_each_class(shots):
    task = world(shots=shots)
    pairs = folds(task)
    assert len(pairs) == min(4, shots)
    held = np.concatenate([part.queries.features for _, part in pairs])
    assert sorted(map(tuple, held)) == sorted(map(tuple, task.support_features))
    for part, left_out in pairs:
        assert set(part.seen) == set(range(6))
        kept = {tuple(row) for row in part.support_features}
        assert not kept & {tuple(row) for row in left_out.queries.features}


def test_a_class_with_one_shot_is_never_held_out():
    task = world(shots=2)
    keep = np.array([True, False] + [True] * 10)
    small = replace(task, support_features=task.support_features[keep], support_labels=task.support_labels[keep])
    parts = list(folds(small))
    assert parts
    for part, left_out in parts:
        assert 0 in part.seen
        assert 0 not in left_out.labels


def test_with_values_refuses_what_needs_a_fit():
    method = Blend().fit(world())
    assert method.with_values(share=1.0).hyper.share == 1.0
    assert method.hyper.share == 0.0
    with pytest.raises(Exception, match="fitted again for another sign"):
        method.with_values(sign=-1.0)


def test_create_is_what_select_names():
    assert create("linear-probe", **{"c": 1.0}).hyper.c == 1.0


def test_of_equal_candidates_the_defaults_win():
    """Texts and prototypes that are the same score alike, whatever their shares."""
    centres = np.eye(4, 8)
    labels = np.repeat(np.arange(4), 2)
    task = FewShotTask(centres[labels], labels, centres, tuple("abcd"))
    scores = selection.score_candidates("blend", task, {"sign": (1.0,)}, {"share": (0.0, 0.5, 1.0)})
    assert len(set(scores.accuracy)) == 1
    np.testing.assert_allclose(scores.likelihood, scores.likelihood[0])
    assert scores.best({"sign": 1.0, "share": 0.5}) == 1
    assert scores.best({"sign": 1.0, "share": 0.7}) == 0


def test_left_out_shots_can_be_encoded_anew():
    """For methods that tune CLIP: through the changed weights, each shot its own photo."""
    given = conformance_world("full")
    parts = list(folds(given.task))
    assert parts
    for part, left_out in parts:
        plain = left_out.queries.encode(lambda _: {})
        np.testing.assert_allclose(normalise(plain), left_out.queries.features, atol=1e-5)
        doubled = left_out.queries.encode(lambda base: {"visual.proj": 2 * base["visual.proj"]})
        np.testing.assert_allclose(doubled, 2 * plain, rtol=1e-5)
        pixels = part.encoder.pixels(np.arange(2), None, 1.0)
        rows = [np.flatnonzero((given.task.support_features == row).all(axis=1))[0] for row in part.support_features]
        np.testing.assert_array_equal(pixels, given.task.encoder.pixels(np.array(rows[:2]), None, 1.0))


def scored(*gains, noise=1.0, text=True):
    """Scores of candidates whose photos are more likely than zero-shot's by a mean gain, with noise."""
    rng = np.random.default_rng(0)
    zero_shot = -rng.exponential(size=400)
    draws = rng.standard_normal((len(gains), 400))
    draws -= draws.mean(axis=1, keepdims=True)
    rows = np.stack([zero_shot + gain + noise * bool(gain) * draw for gain, draw in zip(gains, draws, strict=True)])
    candidates = [{"share": float(number)} for number in range(len(gains))]
    return selection.Scores(candidates, np.ones(len(gains)), rows, zero_shot if text else None, "support")


def test_without_clear_evidence_the_candidate_nearest_to_zero_shot_is_chosen():
    """The standard error of a mean of 400 photos is 0.05."""
    assert scored(0.0, 0.02).best({"share": 1.0}) == 0
    assert scored(0.0, 0.2).best({"share": 0.0}) == 1
    assert scored(0.0, -0.2, 0.02).best({"share": 0.0}) == 0
    assert scored(-0.2, 0.2).best({"share": 0.0}) == 1


def test_without_texts_the_most_likely_candidate_is_chosen():
    assert scored(0.0, 0.02, text=False).best({"share": 0.0}) == 1


def test_a_candidate_that_diverged_is_never_chosen():
    scores = scored(0.0, 0.2)
    scores.rows[1] = -np.inf
    assert scores.best({"share": 1.0}) == 0


def test_the_scale_of_the_scores_does_not_matter():
    """Cosines and 100 times as large logits of the same method are equally likely."""
    task = world()
    found = selection.score_candidates("blend", task, {"sign": (1.0,)}, {"share": (0.0,)})
    np.testing.assert_allclose(found.rows[0], found.zero_shot, atol=1e-3)
