import csv
import io

import numpy as np
import pytest
from PIL import Image

from benchmarks import calibration
from jclip_adapter.core.task import softmax
from jclip_adapter.evaluation.metrics import calibration_error
from jclip_adapter.features.file import read_feature_file
from jclip_adapter.methods import create
from tests.tiny_features import write_features


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "RESULTS", tmp_path / "calibration")
    return tmp_path / "calibration"


def test_every_method_has_its_error_before_and_after(tmp_path, results, capsys):
    path = write_features(tmp_path / "tiny.npz", (2, 4), classes=20)
    assert calibration.main([str(path), "--method", "zero-shot,proker,transclip,amu-tuning"]) == 0
    rows = list(csv.DictReader(results.with_suffix(".csv").read_text().splitlines()))
    # transclip is transductive, and amu-tuning needs a second network
    assert [(row["shots"], row["method"]) for row in rows] == [(k, m) for k in "24" for m in ("zero-shot", "proker")]
    content = read_feature_file(path)
    logits = create("proker", seed=1).fit(content.tasks[4]).logits(content.test.queries)
    error = {key: float(rows[-1][key]) for key in ("ece_before", "ece", "temperature")}
    assert error["ece_before"] == pytest.approx(100 * calibration_error(softmax(logits), content.test.labels), abs=1e-3)
    scaled = softmax(logits / error["temperature"])
    assert error["ece"] == pytest.approx(100 * calibration_error(scaled, content.test.labels), abs=0.01)
    assert error["ece"] < 0.5 * error["ece_before"]
    text = results.with_suffix(".md").read_text()
    assert text in capsys.readouterr().out
    assert "| tiny     |     2 |       2 |" in text
    assert np.asarray(Image.open(io.BytesIO(results.with_suffix(".png").read_bytes()))).std() > 0
