"""benchmarks.auto_accuracy on features made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import auto_accuracy
from jclip_adapter.core.task import normalise
from jclip_adapter.features.file import FeatureFile, read_feature_file

CLASSES = 10
OTHERS = [
    {"dataset": "toy", "method": name, "shots": "4", "top1": top1}
    for name, top1 in (("gda", "70.0"), ("lp-plus-plus", "75.0"), ("transclip", "99.0"))
]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> FeatureFile:
    """Ten classes around their texts, 4 shots and 3 test photos each."""
    rng = np.random.default_rng(0)
    text = normalise(rng.standard_normal((CLASSES, 12)))

    def photos(count: int) -> dict[str, np.ndarray]:
        labels = np.repeat(np.arange(CLASSES), count)
        return {"x": normalise(text[labels] + 0.2 * rng.standard_normal((len(labels), 12))), "y": labels}

    arrays = {f"{name}_{key}": value for name, n in (("train4", 4), ("test", 3)) for key, value in photos(n).items()}
    path = tmp_path_factory.mktemp("features") / "toy.npz"
    np.savez(path, classnames=np.array([f"class {n}" for n in range(CLASSES)]), text=text, **arrays)
    return read_feature_file(path)


def test_a_draw_divides_all_photos_of_the_file(content: FeatureFile) -> None:
    task, test = auto_accuracy.drawn(content, 4, 1)
    assert np.bincount(task.support_labels).tolist() == [4] * CLASSES
    assert np.bincount(test.labels).tolist() == [3] * CLASSES
    every = {row.tobytes() for row in np.concatenate([task.support_features, test.queries.features])}
    own = content.tasks[4]
    assert every == {row.tobytes() for row in np.concatenate([own.support_features, content.test.queries.features])}
    assert len(every) == 70
    again, _ = auto_accuracy.drawn(content, 4, 1)
    np.testing.assert_array_equal(again.support_features, task.support_features)
    assert not np.array_equal(auto_accuracy.drawn(content, 4, 2)[0].support_features, task.support_features)


def test_rows_and_table(content: FeatureFile) -> None:
    rows = auto_accuracy.measure(content, 1, OTHERS)
    own = [row["method"] for row in rows if not row["draw"] and not row["unseen"]]
    heads = [f"auto: {name}" for name in ("text", "centred", "gaussian", "linear")]
    assert own == ["auto", *heads, "zero-shot", "uni-modal-linear", "best with hindsight"]
    assert {(row["method"], row["draw"], row["unseen"]) for row in rows if row["draw"]} == {
        (name, 1, lacking) for name in ("auto", "zero-shot") for lacking in (0, 2)
    }
    best = next(row for row in rows if row["method"] == auto_accuracy.HINDSIGHT)
    assert (best["top1"], best["weights"]) == ("75.0000", "lp-plus-plus")  # not the transductive one
    lacking = next(row for row in rows if row["unseen"] and row["method"] == "auto")
    assert float(lacking["top1"]) == pytest.approx(0.8 * float(lacking["base"]) + 0.2 * float(lacking["new"]), abs=0.01)
    text = auto_accuracy.table(rows)
    assert "75.0 (lp-plus-plus)" in text
    assert auto_accuracy.picture(rows).startswith(b"\x89PNG")


def test_a_calibrated_model_has_the_error_of_chance() -> None:
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(5), 3000)
    labels = np.array([rng.choice(5, p=row) for row in p])
    error = auto_accuracy.calibration_error(p, labels)
    assert 0 < auto_accuracy.chance_error(p) < 0.03
    assert error < 2 * auto_accuracy.chance_error(p)


def test_draws_must_be_given(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert auto_accuracy.main([str(tmp_path / "toy.npz")]) == 2
    assert "=DRAWS" in capsys.readouterr().err
