from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jclip_adapter.data.photos.decode import Job, try_square
from jclip_adapter.data.photos.preprocess import normalise_pixels
from jclip_adapter.features.encoding import encode_photos
from jclip_adapter.features.noise import with_noise
from jclip_adapter.models.clip.encoder import Encoder
from jclip_adapter.models.clip.model import build_model
from tests.conftest import Cli
from tests.random_weights import TINY, random_state
from tests.tiny_contest import WEIGHTS


@pytest.fixture(scope="module")
def encoder():
    return Encoder(build_model(random_state(TINY)), Path("tiny.pkl"), "0" * 64, 4)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    found = [folder / f"{number}.png" for number in range(6)]
    for path in found:
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    found[2].write_bytes(b"no photo")
    return found


def test_noise_is_added_after_the_normalisation(encoder, paths, tmp_path):
    clean = encode_photos(encoder, paths, tmp_path, workers=0)
    noisy = with_noise(encoder, clean, tmp_path, 0.3, seed=5)
    for row in (0, 3):
        pixels = normalise_pixels(try_square(Job(row, str(paths[row]), 32))[2])
        draw = np.random.default_rng([5, int.from_bytes(clean.keys[row][:8], "big")])
        pixels = pixels + np.float32(0.3) * draw.standard_normal(pixels.shape, dtype=np.float32)
        expected = encoder.model.encode_image(pixels[None]).numpy()[0]
        np.testing.assert_allclose(noisy.raw[row], expected, atol=1e-5)
    assert noisy.bad == clean.bad
    assert list(noisy.bad) == [2]
    assert not noisy.raw[2].any()


def test_hardly_any_noise_is_hardly_any_change(encoder, paths, tmp_path):
    clean = encode_photos(encoder, paths, tmp_path, workers=0)
    np.testing.assert_allclose(with_noise(encoder, clean, tmp_path, 1e-6, seed=0).raw, clean.raw, atol=1e-4)


def test_noise_depends_on_photo_and_seed_alone_and_is_kept(encoder, paths, tmp_path):
    clean = encode_photos(encoder, paths, tmp_path, workers=0)
    some = encode_photos(encoder, paths[3:], tmp_path, workers=0)
    whole = with_noise(encoder, clean, tmp_path / "a", 0.5, seed=1)
    part = with_noise(encoder, some, tmp_path / "b", 0.5, seed=1)
    np.testing.assert_allclose(whole.raw[3:], part.raw, atol=1e-5)
    shards = set((tmp_path / "a").rglob("*.npz"))
    again = with_noise(encoder, clean, tmp_path / "a", 0.5, seed=1)
    np.testing.assert_array_equal(again.raw, whole.raw)
    assert set((tmp_path / "a").rglob("*.npz")) == shards != set()
    for changed in (
        with_noise(encoder, clean, tmp_path / "a", 0.5, 2),
        with_noise(encoder, clean, tmp_path / "a", 1, 1),
    ):
        assert np.abs(changed.raw - whole.raw).max() > 1e-3


def test_the_benchmark_adds_it_to_training_or_test_photos(workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch):
    from jclip_adapter.cli.commands import benchmark

    seen = []
    real = benchmark.run_benchmark
    monkeypatch.setattr(benchmark, "run_benchmark", lambda found, *a, **b: seen.append(found) or real(found, *a, **b))
    base = ("--benchmark", *WEIGHTS, "--method", "linear-probe", "--shots", "2", "--select", "none")
    for flags in ((), ("--noise", "0.5"), ("--noise", "0,0.5"), ("--noise", "0.5,0.5")):
        assert cli(*base, *flags).status == 0
    clean, training, test, both = (problems[0] for problems in seen)
    for noisy, other in ((training, clean), (both, test)):
        assert np.abs(noisy.task.support_features - other.task.support_features).max() > 1e-3
        np.testing.assert_array_equal(noisy.test.queries.features, other.test.queries.features)
        np.testing.assert_allclose(np.linalg.norm(noisy.task.support_features, axis=1), 1, atol=1e-5)
    for noisy, other in ((test, clean), (both, training)):
        assert np.abs(noisy.test.queries.features - other.test.queries.features).max() > 1e-3
        np.testing.assert_array_equal(noisy.task.support_features, other.task.support_features)
    assert len({problem.fingerprint for problem in (clean, training, test, both)}) == 4


@pytest.mark.parametrize(
    ("flags", "culprit"),
    [
        (("--method", "coop"), "--noise has no effect on coop, which trains through CLIP"),
        (("--method", "tip-adapter", "--views", "2"), "--noise has no effect on --views"),
        (("--method", "amu-tuning", "--auxiliary", "efficientnet-lite0"), "--noise has no effect on --auxiliary"),
    ],
)
def test_noise_that_would_not_be_seen_is_refused(
    flags: tuple[str, ...], culprit: str, workplace: Path, cli: Cli
) -> None:
    outcome = cli("--benchmark", *WEIGHTS, *flags, "--noise", "0.3")
    assert outcome.status == 2
    assert culprit in outcome.err


def test_noise_needs_a_clip(workplace: Path, cli: Cli) -> None:
    outcome = cli("--benchmark", "--weights", "efficientnet-lite0", "--method", "linear-probe", "--noise", "0.3")
    assert outcome.status == 2
    assert "--noise has no effect on efficientnet-lite0" in outcome.err
