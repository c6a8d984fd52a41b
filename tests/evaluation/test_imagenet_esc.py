"""The ImageNet-ESC protocol has the outcomes of the authors' code, from features to the selected accuracy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jclip_adapter.core.errors import DataError
from jclip_adapter.evaluation.imagenet_esc import PUBLISHED, WAYS, Cell, Plan, protocol_tables, run_cell, run_protocol
from jclip_adapter.features.imagenet_esc import EscFeatures, esc_features, read_esc_file
from jclip_adapter.methods.training import layers
from tests.esc_features import esc_arrays, write_esc_features
from tests.golden_files import Golden

GOLDEN = Golden("imagenet_esc")
ARRAYS = esc_arrays(GOLDEN)
MODES = {  # of the authors' code
    "linear_prob": ("own", "random"),
    "audiovisual_linear_prob": ("own, other", "other"),
    "plustext_linear_prob": ("own, text", "text"),
    "allmodal_linear_prob": ("own, other, text", "other, text"),
}
STEPS = 400
COMPARED = {  # whose outcomes are not chaotic
    name: facts for name, facts in GOLDEN.facts["results"].items() if facts["iterations"] == STEPS and facts["lr"] < 0.1
}


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> EscFeatures:
    return read_esc_file(write_esc_features(tmp_path_factory.mktemp("esc") / "esc.npz", GOLDEN))


def cell_of(facts: dict[str, Any]) -> Cell:
    return Cell(int(facts["benchmark"].removeprefix("imagenet_")), facts["task"], facts["shots"], facts["split"] + 1)


@pytest.mark.golden
@pytest.mark.parametrize("cell", sorted({cell_of(facts) for facts in COMPARED.values()}), ids=str)
def test_outcomes(cell: Cell, features: EscFeatures, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = {name: facts for name, facts in COMPARED.items() if cell_of(facts) == cell}
    for name, facts in mine.items():
        if facts["mode"] == "linear_prob":  # the authors' random start
            monkeypatch.setattr(layers, "linear_weight", lambda *_, name=name: GOLDEN[f"{name}_W0"])
    points = sorted({(facts["lr"], facts["weight_decay"]) for facts in mine.values()}, reverse=True)
    plan = Plan(iterations=STEPS, grid=tuple(points), seed=GOLDEN.facts["recipe"]["seed"])
    found = run_cell(features.of_classes(cell.classes), cell, plan)
    for name, facts in mine.items():
        wanted = (*MODES[facts["mode"]], facts["lr"], facts["weight_decay"])
        numbers = (facts["other_seed"] + 1,) if "other" in wanted[0] else (1,)
        (training,) = [
            each
            for each in found["trainings"]
            if (each["rows"], each["start"], each["lr"], each["weight_decay"]) == wanted and each["run"] in numbers
        ]
        assert training["iteration"] == facts["best_iter"], name
        assert training["val"] == pytest.approx(facts["best_val_acc"]), name
        assert training["test"] == pytest.approx(facts["test_acc_at_best"]), name
        own, other = ("image", "audio") if cell.task == "image" else ("audio", "image")
        assert found["untrained"]["text"] == [pytest.approx(facts["zero_shot"]["text"])]
        assert found["untrained"]["own"] == [pytest.approx(facts["zero_shot"][own])]
        assert found["untrained"]["other"][facts["other_seed"]] == pytest.approx(facts["zero_shot"][other])


def test_the_split_of_a_fold_draws_nothing() -> None:
    """Of each class the first K sounds of the fold, then the next K, and all of the other folds."""
    arrays = esc_arrays(GOLDEN)
    number = iter(range(10**6))
    for fold in range(1, 6):
        arrays[f"audio_fold{fold}_x"][:, :2] = [[1e3, 10 * next(number)] for _ in arrays[f"audio_fold{fold}_y"]]
    parts = {name[:-2]: (arrays[name], arrays[f"{name[:-2]}_y"]) for name in arrays if name.endswith("_x")}
    whole = esc_features(arrays["text"], parts)
    split = whole.split("audio", 2, 3)
    own = whole.parts["audio_fold2"]
    for label in range(27):
        rows = own.features[own.labels == label]
        np.testing.assert_array_equal(split.train.features[split.train.labels == label], rows[:3])
        np.testing.assert_array_equal(split.val.features[split.val.labels == label], rows[3:6])
    assert len(split.test.labels) == 4 * len(own.labels)
    np.testing.assert_array_equal(whole.beside("image", 2).features, whole.split("audio", 2, 1).train.features)
    known = {row.tobytes() for row in own.features}
    assert not any(row.tobytes() in known for row in split.test.features)


@pytest.fixture(scope="module")
def small(features: EscFeatures, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Path]:
    """The whole protocol at one shot, with few iterations and points."""
    cells = tmp_path_factory.mktemp("cells")
    return run_protocol(features, Plan((1,), 101, ((0.01, 0.0), (0.001, 0.01))), cells), cells


def test_means_and_deviations_are_those_of_the_selected_trainings(small: tuple[list[dict[str, Any]], Path]) -> None:
    rows, cells = small
    assert len(list(cells.iterdir())) == 2 * 2 * 5
    assert len(rows) == 2 * 2 * (3 + len(WAYS))
    (row,) = [row for row in rows if (row["classes"], row["task"], row["rows"]) == (19, "audio", "own, other")]
    values = []
    for path in sorted(cells.glob("imagenet-esc-19-audio-1shot-*")):
        trainings = json.loads(path.read_text())["trainings"]
        assert len(trainings) == 17 * 2
        for run in range(1, 6):
            of_run = [each for each in trainings if (each["rows"], each["run"]) == ("own, other", run)]
            assert [each["lr"] for each in of_run] == [0.01, 0.001]
            values.append(100 * of_run[int(of_run[1]["val"] > of_run[0]["val"])]["test"])
    assert (row["runs"], row["published"]) == (25, 35.7)
    assert row["top1"] == pytest.approx(np.mean(values))
    assert row["std"] == pytest.approx(np.std(values))
    assert [each["runs"] for each in rows[:8]] == [5, 5, 25, 25, 5, 25, 5, 25]


def test_a_finished_protocol_computes_nothing(
    small: tuple[list[dict[str, Any]], Path], features: EscFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jclip_adapter.evaluation import imagenet_esc

    monkeypatch.setattr(imagenet_esc, "run_cell", lambda *_: pytest.fail("computed again"))
    rows, cells = small
    assert run_protocol(features, Plan((1,), 101, ((0.01, 0.0), (0.001, 0.01))), cells) == rows


def test_tables_show_both_starts_and_the_published_figures(small: tuple[list[dict[str, Any]], Path]) -> None:
    text = protocol_tables(small[0])
    assert text.count("### ") == 4
    photos = text.split("### ")[1].splitlines()
    assert photos[0] == "Photos, 19 classes"
    trained = [[cell.strip() for cell in line.split("|")[1:-1]] for line in photos if line.startswith("| ")][1:]
    assert [line[:2] for line in trained] == [
        ["–", "text"],
        ["–", "photos"],
        ["–", "sounds"],
        ["photos", "random"],
        ["photos", "text"],
        ["photos, sounds", "sounds"],
        ["photos, text", "text"],
        ["photos, sounds, text", "sounds, text"],
    ]
    assert [line[3] for line in trained] == ["–", "–", "–", "68.0", "–", "69.3", "–", "–"]
    assert all(" ± " in line[2] for line in trained)


def test_published_figures_are_whole() -> None:
    assert len(PUBLISHED) == 8
    assert all(0 < figure < 100 for figures in PUBLISHED.values() for figure in figures)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": None}, "no array text"),
        ({"audio_fold3_x": None}, "no array audio_fold3_x"),
        ({"audio_fold3_x": None, "audio_fold3_y": None}, "no features audio_fold3"),
        ({"image_val2_seed4_x": None, "image_val2_seed4_y": None}, "no features image_val2_seed4"),
        ({"image_test_y": np.zeros_like(ARRAYS["image_test_y"])}, "expected labels 0 to 26"),
        ({"image_test_y": np.zeros(3, int)}, "labels of shape"),
        ({"image_test_x": np.full_like(ARRAYS["image_test_x"], np.nan)}, "NaN"),
        ({"notes": np.zeros(1)}, "an unknown array notes"),
        ({"categories": np.array(["dog"] * 27)}, "categories are not those"),
    ],
)
def test_faulty_files_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    arrays = {name: value for name, value in {**ARRAYS, **change}.items() if value is not None}
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DataError, match=message) as caught:
        read_esc_file(tmp_path / "bad.npz")
    assert "bad.npz" in str(caught.value)


def test_too_few_sounds_and_other_shots_are_refused(features: EscFeatures, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no photos of 3 shots"):
        run_protocol(features, Plan((3,)), tmp_path)
    arrays = esc_arrays(GOLDEN, (1, 8))
    np.savez(tmp_path / "few.npz", **arrays)
    with pytest.raises(DataError, match="class of 8 sounds, expected 8 to train and 8 to validate"):
        run_protocol(read_esc_file(tmp_path / "few.npz"), Plan((8,)), tmp_path)
