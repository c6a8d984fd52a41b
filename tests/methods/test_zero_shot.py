import numpy as np
import pytest

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.task import FewShotTask, normalise, text_classifier
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


def test_photos_are_compared_with_sounds_by_the_scale_of_both():
    """The formula in float64; a class without sounds is between the others as its text is."""
    rng = np.random.default_rng(0)
    text, sounds, queries = (normalise(rng.standard_normal((rows, 16))) for rows in (4, 6, 5))
    labels = np.array([0, 0, 1, 3, 3, 3])
    heard = {"extra_features": sounds, "extra_labels": labels, "extra_modalities": ["audio"] * 6, "extra_scale": 40.0}
    task = FewShotTask(np.zeros((0, 16)), [], text, tuple("abcd"), logit_scale=90.0, **heard)
    means = np.stack([sounds[labels == label].astype(np.float64).mean(axis=0) for label in (0, 1, 3)])
    wanted = 40 * queries @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    logits = create("zero-shot", by="audio").fit(task).logits(queries)
    np.testing.assert_allclose(logits[:, [0, 1, 3]], wanted, atol=1e-4)
    by_text = 90 * queries.astype(np.float64) @ text.T
    prior = by_text[:, [0, 1, 3]]
    place = (by_text[:, 2] - prior.mean(axis=1)) / prior.std(axis=1)
    np.testing.assert_allclose(logits[:, 2], wanted.mean(axis=1) + place * wanted.std(axis=1), atol=1e-3)
    np.testing.assert_allclose(create("zero-shot").fit(task).logits(queries), by_text, atol=1e-4)
    with pytest.raises(DataError, match="by=image needs training rows"):
        create("zero-shot", by="image").fit(task)
