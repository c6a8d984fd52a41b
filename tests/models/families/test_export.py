"""Folders that `--convert` writes: read back, replaced, and expressed by the libraries' own configurations."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from jclip_adapter.core.errors import UsageError
from jclip_adapter.models.clip.config import ClipConfig
from jclip_adapter.models.clip.encoder import load_encoder
from jclip_adapter.models.clip.shapes import shapes_of
from jclip_adapter.models.families.export import forms
from jclip_adapter.models.weights import convert, load_weights
from tests import ROOT

FOLDER = ROOT / "tests/golden/models"
MODELS = sorted(path.name for path in FOLDER.iterdir())
# Which library's configuration can express which model.
OPEN_CLIP = {"oc_custom_bias"}
TRANSFORMERS = {"chinese_clip", "chinese_clip_pt", "siglip", "siglip2", "oc_siglip2"}
NONE = {"pe_core"}  # smaller than the published ones
FILES = {
    "open_clip": ("open_clip_config.json", "open_clip_model.safetensors"),
    "transformers": ("config.json", "preprocessor_config.json", "model.safetensors"),
}


def libraries_of(name: str) -> set[str]:
    if name in NONE:
        return set()
    return {"open_clip"} if name in OPEN_CLIP else {"transformers"} if name in TRANSFORMERS else set(FILES)


@pytest.mark.parametrize("name", MODELS)
def test_a_converted_folder_is_the_same_model(name: str, tmp_path: Path) -> None:
    convert(FOLDER / name, tmp_path / "c")
    convert(FOLDER / name, tmp_path / "again")
    convert(tmp_path / "c", tmp_path / "again")  # this program's folder is replaced
    before, after = load_weights(FOLDER / name).state, load_weights(tmp_path / "c").state
    assert before.keys() == after.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value, err_msg=key)
    wanted = load_encoder(str(FOLDER / name)).description
    for folder in ("c", "again"):
        assert load_encoder(str(tmp_path / folder)).description == wanted


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("library", FILES)
def test_the_library_s_configuration_says_the_same(name: str, library: str, tmp_path: Path) -> None:
    """Without this program's metadata, as the libraries read it: all but cleaning and rounding of crops is the same."""
    convert(FOLDER / name, tmp_path / "c")
    assert (tmp_path / "c" / FILES[library][0]).is_file() == (library in libraries_of(name))
    if library not in libraries_of(name):
        return
    shutil.copytree(tmp_path / "c", tmp_path / "w")
    for other, files in FILES.items():
        for file in files if other != library else ():
            (tmp_path / "w" / file).unlink(missing_ok=True)
    weights = tmp_path / "w" / FILES[library][-1]
    with safe_open(weights, "np") as file:
        assert file.metadata()["format"] == "pt"  # transformers refuses others
        assert all(key.startswith("logit_") for key in file.keys() if not file.get_slice(key).get_shape())  # noqa: SIM118
    save_file(load_file(weights), weights)
    if name == "chinese_clip_pt":
        assert not (tmp_path / "w" / "tokenizer_config.json").exists()
    if name in ("siglip2", "oc_siglip2"):  # cleanings that the tokenizer's files do not tell
        (tmp_path / "w" / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "GemmaTokenizer", "eos_token": "<eos>", "pad_token": "<pad>"})
        )
    given, found = (load_encoder(str(folder)).source.config for folder in (FOLDER / name, tmp_path / "w"))
    for field in ClipConfig.__dataclass_fields__:
        if field not in ("pixels", "text_cleaning"):
            assert getattr(found, field) == getattr(given, field), field
    for field in ("mean", "std", "interpolation", "resize"):
        assert getattr(found.pixels, field) == getattr(given.pixels, field), field


def test_a_model_with_a_tokenizer_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"needs its spiece\.model"):
        convert(FOLDER / "siglip", tmp_path / "c.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/photo.jpg").write_bytes(b"photo")
    with pytest.raises(UsageError, match="in the way"):
        convert(FOLDER / "siglip", tmp_path / "mine")
    with pytest.raises(UsageError, match=r"a folder or a path ending in \.safetensors"):
        convert(FOLDER / "siglip", tmp_path / "c.bin")


GELU = {"vision_activation": "gelu", "text_activation": "gelu", "vision_pool": "attention"}
PE = ("visual.class_embedding", "visual.ln_pre", "visual.pool", "visual.proj", "visual.proj_bias", "ln_final")
SIGLIP = ("visual.conv1.bias", "visual.pool", "ln_final", "text_projection_bias", "logit_bias")


def pe_core(grid: int) -> ClipConfig:
    sizes = (48, 384, 1, 192, 16, 32, 60, 16, 1)
    return ClipConfig(*sizes, **GELU, parts=PE, vision_rotary=grid, vision_pool_heads=8)


def siglip(side: int, patch: int, eps: float) -> ClipConfig:
    return ClipConfig(768, side, 1, 768, patch, 64, 60, 16, 1, **GELU, parts=SIGLIP, vision_eps=eps)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (pe_core(24), "vit_pe_core_tiny_patch16_384"),
        (pe_core(14), ""),
        (siglip(256, 16, 1e-6), "vit_base_patch16_siglip_256"),
        (siglip(256, 16, 1e-5), ""),
        (siglip(250, 10, 1e-6), ""),
        (siglip(256, 32, 1e-6), ""),  # timm's has tanh's GELU
    ],
    ids=str,
)
def test_towers_that_timm_has(config: ClipConfig, name: str) -> None:
    """A tower is written under timm's name if that means exactly this one; the weights get timm's names."""
    state = {key: np.zeros(shape, np.float32) for key, shape in shapes_of(config).items()}
    found = [form for form in forms(config, state) if form.library == "open_clip"]
    assert bool(found) == bool(name)
    for form in found:
        assert form.tables["open_clip_config.json"]["model_cfg"]["vision_cfg"]["timm_model_name"] == name
        assert {"visual.trunk.attn_pool.latent", "visual.trunk.pos_embed", "text.ln_final.weight"} <= form.state.keys()
        assert form.state["visual.trunk.attn_pool.latent"].shape == (1, 1, config.vision_width)
