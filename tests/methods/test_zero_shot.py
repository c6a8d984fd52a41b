import numpy as np
import pytest

from jclip_adapter.core.task import FewShotTask, text_classifier
from jclip_adapter.methods import create
from tests.golden_files import Golden


@pytest.mark.golden
def test_text_weights_and_logits_are_the_originals():
    golden = Golden("zeroshot")
    close = {"atol": golden.tolerance("atol"), "rtol": golden.tolerance("rtol")}
    text = text_classifier(golden["text_raw"])
    np.testing.assert_allclose(text, golden["text_weights_dC"].T, **close)
    classes, width = text.shape
    task = FewShotTask(np.zeros((0, width)), np.zeros(0), text, tuple(map(str, range(classes))))
    logits = create("zero-shot").fit(task).logits(golden["test"])
    np.testing.assert_allclose(logits, golden["zs_logits"], **close)
    accuracy = 100 * (logits.argmax(axis=1) == golden["test_labels"]).mean()
    assert accuracy == pytest.approx(golden.facts["zero_shot_accuracy"], abs=0.5)
