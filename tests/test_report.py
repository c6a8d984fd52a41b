import io

import numpy as np
from PIL import Image

from jclip_adapter.metrics import by_domain
from jclip_adapter.report import confusion_picture, markdown_table, score_table, training_curves


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_curves_are_a_picture_and_the_same_each_time():
    history = [{"epoch": 1, "loss": 2.0, "top1": 10.0}, {"epoch": 2, "loss": 1.0, "top1": 50.0}]
    data = training_curves(history, "test")
    assert opened(data).width > 300
    assert data == training_curves(history, "test")
    assert data != training_curves(history[:1], "test")


def test_confusion_shows_the_matrix():
    diagonal = opened(confusion_picture(np.eye(4, dtype=np.int64) * 3, ["a", "a", "b", "b"]))
    other = opened(confusion_picture(np.ones((4, 4), dtype=np.int64), ["a", "a", "b", "b"]))
    assert np.asarray(diagonal).mean() > np.asarray(other).mean()


def test_a_class_without_photos_is_no_division_by_zero():
    assert opened(confusion_picture(np.zeros((2, 2), dtype=np.int64), ["", ""])).height > 100


def test_tables_line_up():
    lines = markdown_table(["method", "top-1"], [["zero-shot", "58.0 %"], ["a", "9.0 %"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == "|-----------|-------:|"


def test_scores_stand_beside_zero_shots():
    logits = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    scores = by_domain(logits, [0, 0, 1], ("x", "y"))
    baseline = by_domain(-logits, [0, 0, 1], ("x", "y"))
    table = score_table(scores, baseline, "mine")
    total = table.splitlines()[-1]
    assert [cell.strip() for cell in total.split("|")[1:5]] == ["total", "3", "0.0 %", "100.0 %"]
