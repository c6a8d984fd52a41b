from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.task import normalise, text_classifier
from jclip_adapter.data.photos.decode import Job, try_square
from jclip_adapter.data.texts.prompts import load_prompts
from jclip_adapter.features import encoding as features
from jclip_adapter.models.clip.encoder import Encoder
from jclip_adapter.models.clip.model import build_model
from tests.random_weights import TINY, random_state


@pytest.fixture(scope="module")
def model():
    return build_model(random_state(TINY))


@pytest.fixture
def encoder(model):
    return Encoder(model, Path("tiny.pkl"), "0" * 64, 4)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    paths = []
    for number in range(11):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
        paths.append(path)
    return paths


def count(monkeypatch, encoder, name):
    """Count the rows that go through one of the encoder's towers."""
    rows = []
    real = getattr(Encoder, name)

    def counted(self, batch):
        rows.extend(batch)
        return real(self, batch)

    monkeypatch.setattr(Encoder, name, counted)
    return rows


def test_a_second_run_encodes_nothing(encoder, photos, tmp_path, monkeypatch):
    first = features.encode_photos(encoder, photos, tmp_path, workers=0)
    rows = count(monkeypatch, encoder, "images")
    second = features.encode_photos(encoder, photos, tmp_path, workers=0)
    assert (first.encoded, second.encoded, len(rows)) == (11, 0, 0)
    np.testing.assert_array_equal(first.raw, second.raw)
    assert first.raw.shape == (11, 64)
    assert first.raw.std() > 0


def test_features_are_those_of_the_model_alone(encoder, photos, tmp_path):
    stored = features.encode_photos(encoder, photos, tmp_path, workers=0).raw
    pixels = [try_square(Job(0, str(path), 32))[2] for path in photos[:3]]
    np.testing.assert_allclose(stored[:3], encoder.images(np.stack(pixels)), atol=1e-6)


def test_a_row_does_not_depend_on_what_else_is_encoded(encoder, photos, tmp_path):
    whole = features.encode_photos(encoder, photos, tmp_path / "a", workers=0).raw
    features.encode_photos(encoder, photos[:6], tmp_path / "b", workers=0)
    resumed = features.encode_photos(encoder, photos, tmp_path / "b", workers=0)
    assert resumed.encoded == 5
    np.testing.assert_array_equal(whole, resumed.raw)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6])
def test_a_row_does_not_depend_on_its_place(model, photos, tmp_path, size):
    """Also where the processor's vectors leave rows over: sums of these would be rounded otherwise."""
    encoder = Encoder(model, Path("tiny.pkl"), "0" * 64, size)
    forth = features.encode_photos(encoder, photos, tmp_path / "a", workers=0).raw
    back = features.encode_photos(encoder, photos[::-1], tmp_path / "b", workers=0).raw
    np.testing.assert_array_equal(forth, back[::-1])


def test_other_processes_decode_the_same(encoder, photos, tmp_path):
    here = features.encode_photos(encoder, photos, tmp_path / "a", workers=0)
    there = features.encode_photos(encoder, photos, tmp_path / "b", workers=2)
    np.testing.assert_array_equal(here.raw, there.raw)


def test_equal_photos_are_encoded_once(encoder, photos, tmp_path):
    twin = tmp_path / "twin.png"
    twin.write_bytes(photos[0].read_bytes())
    result = features.encode_photos(encoder, [photos[0], twin, photos[0]], tmp_path / "cache", workers=0)
    assert result.encoded == 1
    np.testing.assert_array_equal(result.raw[0], result.raw[1])


def test_other_bytes_weights_or_size_miss(encoder, model, photos, tmp_path):
    features.encode_photos(encoder, photos[:2], tmp_path, workers=0)
    other = Encoder(model, Path("x"), "1" * 64, 4)
    assert features.encode_photos(other, photos[:2], tmp_path, workers=0).encoded == 2
    changed = tmp_path / "changed.png"
    Image.new("RGB", (50, 40), "red").save(changed)
    assert features.encode_photos(encoder, [photos[0], changed], tmp_path, workers=0).encoded == 1


def test_bad_photos_keep_their_place(encoder, photos, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no photo")
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(b"no photo")
    paths = [photos[0], bad, photos[1], tmp_path / "missing.jpg", copy]
    result = features.encode_photos(encoder, paths, tmp_path / "cache", workers=0)
    assert sorted(result.bad) == [1, 3, 4]
    assert result.readable.tolist() == [True, False, True, False, False]
    good = features.encode_photos(encoder, photos[:2], tmp_path / "cache", workers=0)
    np.testing.assert_array_equal(result.raw[[0, 2]], good.raw)
    assert not result.raw[[1, 3, 4]].any()


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_shard_is_computed_again(encoder, photos, tmp_path, damage, caplog):
    before = features.encode_photos(encoder, photos, tmp_path, workers=0).raw
    shard = next(tmp_path.rglob("*.npz"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes({"flip": bytes(data), "truncate": bytes(data[:-9]), "empty": b""}[damage])
    again = features.encode_photos(encoder, photos, tmp_path, workers=0)
    assert again.encoded == 11
    np.testing.assert_array_equal(again.raw, before)
    assert "damaged" in caplog.text


def test_finished_shards_survive_a_stop(encoder, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "SHARD_ROWS", 4)
    real, calls = Encoder.images, []

    def stops(self, batch):
        calls.append(len(batch))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, batch)

    monkeypatch.setattr(Encoder, "images", stops)
    with pytest.raises(KeyboardInterrupt):
        features.encode_photos(encoder, photos, tmp_path, workers=0)
    monkeypatch.setattr(Encoder, "images", real)
    resumed = features.encode_photos(encoder, photos, tmp_path, workers=0)
    assert resumed.encoded == 3
    whole = features.encode_photos(encoder, photos, tmp_path / "whole", workers=0)
    np.testing.assert_array_equal(resumed.raw, whole.raw)


def test_texts_are_encoded_once_and_kept(encoder, tmp_path, monkeypatch):
    texts = ["a photo of a dog", "a cat", "a photo of a dog", "a very long description of a bird in the sky", "x"]
    first = features.encode_texts(encoder, texts, tmp_path)
    np.testing.assert_array_equal(first[0], first[2])
    rows = count(monkeypatch, encoder, "texts")
    second = features.encode_texts(encoder, [*texts, "new"], tmp_path)
    assert rows == ["new"]
    np.testing.assert_array_equal(second[:5], first)


def test_a_text_that_is_too_long_is_refused(encoder, tmp_path):
    with pytest.raises(UsageError, match="tokens, more than CLIP's 77"):
        features.encode_texts(encoder, ["word " * 100], tmp_path)


def test_classes_are_their_templates_mean(encoder, tmp_path):
    prompts = load_prompts("ensemble")
    names, domains = ("Animal_Bear", "Food-101_pizza"), ("Animal", "Food-101")
    classes = features.encode_classes(encoder, prompts, names, domains, tmp_path)
    raw = features.encode_texts(encoder, prompts.texts("Food-101_pizza"), tmp_path)
    np.testing.assert_allclose(classes.weights[1], text_classifier(raw), atol=1e-6)
    np.testing.assert_allclose(classes.raw[1], raw.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(classes.views[1], normalise(raw), atol=1e-6)
    assert [len(view) for view in classes.views] == [len(prompts.texts(name)) for name in names]


def test_a_batch_too_large_is_a_fault(encoder):
    with pytest.raises(ValueError, match="do not fit a batch"):
        encoder.images(np.zeros((5, 32, 32, 3), np.uint8))


def test_the_encoder_counts_what_was_learnt(encoder):
    assert encoder.parameters == sum(value.size for value in random_state(TINY).values())
    assert encoder.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)


def test_a_tuned_encoder_has_features_of_its_own(encoder, photos, tmp_path):
    """Those of the towers that were changed are found under other keys; what stands on the encoder stays."""
    plain = features.encode_photos(encoder, photos, tmp_path, 0).raw
    assert encoder.tuned(lambda _: {}) is encoder
    text = encoder.tuned(lambda base: {"text_projection": 2 * base["text_projection"]})
    image = encoder.tuned(lambda base: {"visual.proj": 2 * base["visual.proj"]})
    assert (text.image_key() == encoder.image_key(), text.text_key() == encoder.text_key()) == (True, False)
    assert (image.image_key() == encoder.image_key(), image.text_key() == encoder.text_key()) == (False, True)
    np.testing.assert_allclose(features.encode_photos(image, photos, tmp_path, 0).raw, 2 * plain, rtol=1e-5)
    np.testing.assert_array_equal(features.encode_photos(text, photos, tmp_path, 0).raw, plain)
    np.testing.assert_allclose(text.texts(["a dog"]), 2 * encoder.texts(["a dog"]), rtol=1e-5)
    again = image.tuned(lambda base: {"visual.proj": 2 * base["visual.proj"]})
    assert again.image_key() not in (image.image_key(), encoder.image_key())


def test_augmented_copies_depend_on_photo_number_and_seed(encoder, photos, tmp_path, monkeypatch):
    first = features.encode_views(encoder, photos[:3], tmp_path, 2, seed=0)
    assert first.shape == (2, 3, encoder.width)
    assert np.abs(first[0] - first[1]).max() > 0
    calls = count(monkeypatch, encoder, "images")
    turned = features.encode_views(encoder, photos[:3][::-1], tmp_path, 2, seed=0)
    np.testing.assert_array_equal(turned, first[:, ::-1])
    assert not calls
    assert (features.encode_views(encoder, photos[:3], tmp_path, 2, seed=1) != first).any(axis=2).all()
