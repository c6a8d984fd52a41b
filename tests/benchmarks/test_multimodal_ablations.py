import csv
from pathlib import Path

import numpy as np
import pytest

from benchmarks import multimodal_ablations
from jclip_adapter.core.task import normalise


@pytest.fixture
def features(tmp_path):
    rng = np.random.default_rng(0)
    text = normalise(rng.standard_normal((4, 16)))
    labels = np.repeat(np.arange(4), 8)
    rows = normalise(text[labels] + 0.3 * rng.standard_normal((32, 16)))
    arrays = {"classnames": np.array(list("abcd")), "text": text}
    for name, part in (("train4", slice(0, 4)), ("val", slice(4, 6)), ("test", slice(6, 8))):
        chosen = np.concatenate([np.arange(8)[part] + 8 * number for number in range(4)])
        arrays |= {f"{name}_x": rows[chosen], f"{name}_y": labels[chosen]}
    path = tmp_path / "tiny.npz"
    np.savez(path, **arrays)
    return path


def test_both_tables_have_every_variant(features, workplace, monkeypatch, capsys):
    monkeypatch.setattr(multimodal_ablations, "SEEDS", (1, 2))
    names = ("zero-shot", "default", "mask=block")
    monkeypatch.setattr(
        multimodal_ablations, "VARIANTS", [row for row in multimodal_ablations.VARIANTS if row[0] in names]
    )
    tuned = (*multimodal_ablations.TUNED[:2], {"patience": 1, "epochs": 2})
    monkeypatch.setattr(multimodal_ablations, "TUNED", tuned)
    given = [str(features), "--shots", "4", "--data", "Dataset", "--weights", "tiny.pkl", "--out", "out"]
    assert multimodal_ablations.main(given) == 0
    rows = list(csv.DictReader(Path("out.csv").read_text().splitlines()))
    halves, noisy = ([row for row in rows if bool(row["base"]) is there] for there in (True, False))
    assert len(halves) == 2 * 4
    assert len(noisy) == 3 * 2 * 3
    assert {row["photos"]: row["shots"] for row in noisy} == dict.fromkeys(
        ("clean", "noisy training photos", "noisy training and test photos"), "2"
    )
    training = {row["photos"]: row["top1"] for row in noisy if (row["variant"], row["seed"]) == ("zero-shot", "1")}
    assert training["clean"] == training["noisy training photos"]
    text = capsys.readouterr().out
    assert text.count("| mask=block") == 2
    assert text.count("| patience=10, epochs=200 |") == 1
