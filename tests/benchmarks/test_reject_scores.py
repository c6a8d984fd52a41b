import csv

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks import reject_scores
from jclip_adapter.core.task import FewShotTask, Queries, normalise, softmax
from tests.tiny_features import write_features


def task(classes=6, shots=2, width=8):
    rng = np.random.default_rng(0)
    text = normalise(rng.standard_normal((classes, width)))
    labels = np.repeat(np.arange(classes), shots)
    rows = normalise(text[labels] + 0.2 * rng.standard_normal((len(labels), width)))
    return FewShotTask(rows, labels, text, tuple("abcdef"[:classes]), logit_scale=10.0)


def test_the_area_is_scikit_learns():
    rng = np.random.default_rng(0)
    known, unknown = rng.integers(0, 9, 40).astype(float), rng.integers(-3, 6, 30).astype(float)
    labels = np.r_[np.ones(40), np.zeros(30)]
    assert reject_scores.auroc(known, unknown) == pytest.approx(roc_auc_score(labels, np.r_[known, unknown]))


def test_unknown_classes_leave_nothing_behind():
    whole = task()
    part = reject_scores.known_part(whole, np.array([1, 3, 4]))
    assert part.class_names == ("b", "d", "e")
    np.testing.assert_array_equal(part.text_features, whole.text_features[[1, 3, 4]])
    np.testing.assert_array_equal(part.support_features, whole.support_features[[2, 3, 6, 7, 8, 9]])
    assert part.support_labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_scores_are_large_where_a_method_is_sure():
    given = task()
    queries = Queries(given.support_features)
    logits = 10 * given.support_features @ given.text_features.T
    found = reject_scores.scores_of(logits, queries, given)
    shares = softmax(logits)
    np.testing.assert_allclose(found["maximum probability"], shares.max(axis=1))
    np.testing.assert_allclose(found["entropy"], (shares * np.log(shares)).sum(axis=1))
    np.testing.assert_allclose(found["energy"], np.log(np.exp(logits.astype(np.float64)).sum(axis=1)), rtol=1e-6)
    ordered = np.sort(logits, axis=1)
    np.testing.assert_allclose(found["margin of the logits"], ordered[:, -1] - ordered[:, -2], rtol=1e-5)
    np.testing.assert_allclose(found["margin of the texts"], found["margin of the logits"], rtol=1e-5)
    assert all(scores.shape == (12,) for scores in found.values())


def test_a_class_that_is_left_out_has_no_column():
    given = task()
    queries, labels = Queries(given.support_features), given.support_labels
    logits = 10 * given.support_features @ given.text_features.T
    found = reject_scores.scores_of(logits, queries, given, labels)
    others = np.array([np.delete(row, label) for row, label in zip(logits, labels, strict=True)])
    np.testing.assert_allclose(found["maximum logit"], others.max(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found["nearest text"], others.max(axis=1), rtol=1e-5)


def test_the_table_compares_every_score(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reject_scores, "RESULTS", tmp_path / "out")
    path = write_features(tmp_path / "tiny.npz", (4,), classes=20)
    given = [str(path), "--seeds", "2", "--method", "zero-shot,tip-adapter"]
    assert reject_scores.main(given) == 0
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert len(rows) == 2 * 2 * 12
    assert {row["classes"] for row in rows} == {"14"}
    chosen = [row for row in rows if row["score"] == reject_scores.CHOSEN]
    assert all(float(row["auroc"]) > 70 for row in chosen)
    assert all(float(row["kept"]) > 80 for row in chosen)
    assert (tmp_path / "out.md").read_text() in capsys.readouterr().out
