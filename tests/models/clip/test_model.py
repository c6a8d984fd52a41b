from dataclasses import replace

import numpy as np
import pytest

from jclip_adapter.core.errors import WeightsError
from jclip_adapter.core.task import EncoderLink
from jclip_adapter.data.photos.preprocess import PixelTransform, normalise_pixels
from jclip_adapter.methods.training.folds import _reencoded
from jclip_adapter.models.clip.config import ACTIVATIONS, ClipConfig, infer_config
from jclip_adapter.models.clip.model import CLIP, build_model, state_arrays
from jclip_adapter.models.clip.shapes import shapes_of
from jclip_adapter.models.clip.transformer import ACTIVATION_FUNCTIONS
from jclip_adapter.runtime import jt
from tests.golden_files import Golden
from tests.random_weights import TINY, random_state

CASES = ("openai_clip_vit", "openai_clip_resnet")


@pytest.fixture(scope="module", params=CASES)
def case(request):
    golden = Golden(request.param)
    return golden, build_model(golden.state_dict())


@pytest.fixture(scope="module")
def tiny():
    return random_state(TINY)


@pytest.mark.golden
def test_features_and_logits_are_openais(case):
    golden, model = case
    close = {"atol": golden.tolerance("features_atol"), "rtol": golden.tolerance("features_rtol")}
    with jt.no_grad():
        np.testing.assert_allclose(model.encode_image(golden["images"]).numpy(), golden["encode_image"], **close)
        np.testing.assert_allclose(model.encode_text(golden["tokens"]).numpy(), golden["encode_text"], **close)
        per_image, per_text = model(jt.array(golden["images"]), jt.array(golden["tokens"]))
    atol = golden.tolerance("logits_atol")
    np.testing.assert_allclose(per_image.numpy(), golden["logits_per_image"], atol=atol)
    np.testing.assert_allclose(per_text.numpy(), golden["logits_per_text"], atol=atol)


@pytest.mark.golden
def test_sizes_are_read_off_the_weights(case):
    golden, model = case
    wanted = golden.facts["config"]
    for name in ("embed_dim", "image_resolution", "vision_width", "context_length", "vocab_size", "transformer_width"):
        assert getattr(model.config, name) == wanted[name], name
    layers = wanted["vision_layers"]
    assert model.config.vision_layers == (tuple(layers) if isinstance(layers, list) else layers)
    assert model.config.vision_patch_size == (wanted["vision_patch_size"] or 0)
    assert model.visual.input_resolution == wanted["image_resolution"]


@pytest.mark.golden
def test_parameters_are_those_of_the_state_dict_and_no_mask(case):
    golden, model = case
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    learnt = {key for key in golden.state_dict() if not key.endswith(buffers)}
    assert {name for name, _ in model.named_parameters() if not name.endswith(buffers)} == learnt


@pytest.mark.golden
@pytest.mark.parametrize("name", CASES)
def test_weights_come_back_unchanged(name):
    golden = Golden(name)
    state = golden.state_dict()
    back = state_arrays(build_model(state))
    for key, value in state.items():
        if not key.endswith("num_batches_tracked"):
            assert back[key].shape == value.shape, key
            np.testing.assert_array_equal(back[key], value, err_msg=key)


def test_text_is_encoded_as_if_padded_to_the_full_context(tiny):
    model = build_model(tiny)
    rng = np.random.default_rng(0)
    tokens = np.zeros((3, 77), np.int32)
    for row, length in enumerate((5, 9, 77)):
        tokens[row, :length] = rng.integers(1, 49000, length)
        tokens[row, length - 1] = 49407
    with jt.no_grad():
        together = model.encode_text(tokens).numpy()
        alone = np.concatenate([model.encode_text(tokens[row : row + 1]).numpy() for row in range(3)])
    np.testing.assert_allclose(together, alone, atol=2e-6)


def test_text_beyond_the_context_is_refused(tiny):
    with pytest.raises(ValueError, match="do not fit"):
        build_model(tiny).encode_text(np.ones((1, 78), np.int32))


def test_all_unfitting_keys_are_listed(tiny):
    state = dict(tiny)
    del state["ln_final.bias"]
    state["visual.proj"] = np.zeros((3, 64), np.float32)
    state["extra"] = np.zeros(1, np.float32)
    with pytest.raises(WeightsError) as caught:
        build_model(state)
    text = " ".join(caught.value.details)
    assert "missing ln_final.bias" in text
    assert "unknown extra" in text
    assert "visual.proj has shape (3, 64), expected (64, 64)" in text


def test_nothing_is_loaded_where_something_does_not_fit(tiny):
    model = CLIP(infer_config(tiny))
    before = state_arrays(model)
    with pytest.raises(WeightsError):
        build_model({**tiny, "extra": np.zeros(1, np.float32)})
    for key, value in state_arrays(model).items():
        np.testing.assert_array_equal(value, before[key], err_msg=key)


def test_other_weights_are_told_apart():
    with pytest.raises(WeightsError, match="not the weights of a CLIP"):
        infer_config({"conv1.weight": np.zeros((8, 3, 7, 7), np.float32)})


@pytest.mark.parametrize(
    ("width", "patch", "side", "layers"), [(768, 32, 7, 12), (768, 16, 14, 12), (1024, 14, 16, 24), (1024, 14, 24, 24)]
)
def test_vision_transformers_of_every_published_size(width, patch, side, layers):
    blocks = {f"visual.transformer.resblocks.{n}.ln_1.bias": np.zeros(1) for n in range(layers)}
    state = {
        "ln_final.weight": np.zeros(512),
        "visual.class_embedding": np.zeros(width),
        "visual.proj": np.zeros((width, 512)),
        "visual.conv1.weight": np.zeros((width, 3, patch, patch)),
        "visual.positional_embedding": np.zeros((side * side + 1, width)),
        "text_projection": np.zeros((512, 512)),
        "positional_embedding": np.zeros((77, 512)),
        "token_embedding.weight": np.zeros((49408, 1)),
        "transformer.resblocks.11.ln_1.bias": np.zeros(1),
        **blocks,
    }
    config = infer_config(state)
    assert (config.vision_layers, config.vision_width, config.image_resolution) == (layers, width, patch * side)
    assert config.transformer_layers == 12


@pytest.mark.golden
def test_the_vision_tower_splits_before_its_last_block():
    golden = Golden("cross_modal_partial_split")
    model = build_model(Golden("openai_clip_vit").state_dict())
    close = {"atol": golden.tolerance("atol")}
    with jt.no_grad():
        middle = model.visual.body(jt.array(golden["images"]))
        np.testing.assert_allclose(middle.numpy(), golden["image_mid_1"], **close)
        np.testing.assert_allclose(
            model.visual.tail(jt.array(golden["image_mid_1"])).numpy(), golden["image_feat_1"], **close
        )
        np.testing.assert_allclose(model.encode_image(golden["images"]).numpy(), golden["full_image_features"], **close)
        np.testing.assert_allclose(model.encode_text(golden["tokens"]).numpy(), golden["text_feat_1"], **close)


SIGLIP = ("visual.conv1.bias", "visual.pool", "ln_final", "text_projection_bias", "logit_bias")
BERT = ("visual.class_embedding", "visual.ln_pre", "visual.proj", "visual.proj_bias", "ln_embedding")


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        ClipConfig(32, 48, 3, 128, 16, 20, 300, 64, 2),
        ClipConfig(128, 50, 1, 128, 16, 20, 300, 64, 1, vision_mlp=96, parts=SIGLIP, vision_pool="attention"),
        ClipConfig(32, 48, 1, 128, 16, 52, 300, 64, 1, parts=BERT, text_positions=512),
    ],
)
def test_shapes_are_the_models(config):
    own = {key: tuple(value.shape) for key, value in CLIP(config).state_dict().items()}
    assert shapes_of(config) == own


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_of_the_activations(activation):
    x = jt.array(np.linspace(-4, 4, 81, dtype=np.float32))
    function = ACTIVATION_FUNCTIONS[activation]
    found = jt.grad(function(x).sum(), x).numpy()
    step = 1e-2
    numeric = (function(x + step).numpy() - function(x - step).numpy()) / (2 * step)
    np.testing.assert_allclose(found, numeric, atol=1e-3)
    assert np.ptp(found) > 1  # the three are no straight lines


def test_held_out_shots_are_encoded_with_the_model_s_own_settings():
    """Activation, heads and pixels of the CLIP that is tuned, not OpenAI's."""
    pixels = PixelTransform(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    config = replace(TINY, vision_activation="gelu", vision_heads=2, pixels=pixels)
    model = build_model(random_state(TINY), config)
    photos = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    link = EncoderLink(model, ("a", "b"), ("a", "b"), lambda rows, *_: photos[rows])
    found = _reencoded(link, np.arange(2), lambda _: {})
    with jt.no_grad():
        wanted = model.encode_image((photos.transpose(0, 3, 1, 2) / np.float32(255) - 0.5) / 0.5).numpy()
        other = build_model(random_state(TINY)).encode_image(normalise_pixels(photos)).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.abs(found - other).max() > 1e-3
