"""Settings by published names, and what a family's folder lacks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jclip_adapter.core.errors import SetupError, UsageError, WeightsError
from jclip_adapter.models import clip
from jclip_adapter.models.clip import vocabulary
from jclip_adapter.models.clip.config import VIT_B_32, ClipConfig
from jclip_adapter.models.clip.encoder import load_encoder
from jclip_adapter.models.clip.positions import rotary_table
from jclip_adapter.models.clip.tokenizer import token_ids
from jclip_adapter.models.families import pe_core, siglip
from tests import ROOT

FOLDER = ROOT / "tests/golden/models"


@pytest.mark.parametrize(
    ("name", "width", "patch", "heads", "activation"),
    [
        ("vit_base_patch16_siglip_224", 768, 16, 12, "gelu"),
        ("vit_base_patch32_siglip_256", 768, 32, 12, "gelu_tanh"),
        ("vit_large_patch16_siglip_256", 1024, 16, 16, "gelu"),
        ("vit_so400m_patch14_siglip_384", 1152, 14, 16, "gelu"),
        ("vit_giantopt_patch16_siglip_256", 1536, 16, 16, "gelu_tanh"),
    ],
)
def test_towers_of_siglip_by_timm_s_name(name: str, width: int, patch: int, heads: int, activation: str) -> None:
    found = siglip.timm_tower(name)
    assert found is not None
    settings = found[1](replace(VIT_B_32, vision_width=width, vision_heads=16, vision_mlp=0))
    assert (found[0], settings["vision_heads"], settings["vision_activation"]) == (patch, heads, activation)
    assert pe_core.timm_tower(name) is None


@pytest.mark.parametrize(
    ("name", "width", "heads", "grid", "first"),
    [
        ("vit_pe_core_tiny_patch16_384", 192, 3, 24, 1),
        ("vit_pe_core_base_patch16_224", 768, 12, 14, 1),
        ("vit_pe_core_large_patch14_336", 1024, 16, 24, 1),
        ("vit_pe_core_gigantic_patch14_448", 1536, 16, 32, 0),
    ],
)
def test_towers_of_pe_core_by_timm_s_name(name: str, width: int, heads: int, grid: int, first: int) -> None:
    found = pe_core.timm_tower(name)
    assert found is not None
    settings = found[1](replace(VIT_B_32, vision_width=width, vision_heads=heads, vision_mlp=0))
    wanted = {"vision_heads": heads, "vision_rotary": grid, "vision_rotary_offset": first, "vision_pool_heads": 8}
    assert settings == wanted | {"vision_activation": "gelu"}
    assert siglip.timm_tower(name) is None


def test_rotary_positions() -> None:
    """The last patch's angles by their formula, also on another grid than that of training."""
    config = ClipConfig(8, 32, 1, 16, 8, 77, 49408, 8, 1, vision_heads=2, vision_rotary=8)
    table = rotary_table(config)
    assert table is not None
    assert table.shape == (2, 17, 8)
    np.testing.assert_array_equal(table[:, 0], [[1] * 8, [0] * 8])  # the class token
    bands = np.array([1, 1, 0.01, 0.01])
    angles = np.concatenate([2 * 2 * bands, 2 * 4 * bands])  # column 2, row 4 of a grid of half the side
    np.testing.assert_allclose(table[:, 1 + 3 * 4 + 1], [np.cos(angles), np.sin(angles)], atol=1e-6)
    assert rotary_table(replace(config, vision_rotary=0)) is None


@pytest.mark.parametrize(
    ("name", "file", "told"),
    [
        ("chinese_clip", "vocab.txt", r"tokenizer is missing: .*vocab\.txt"),
        ("chinese_clip_pt", "vocab.txt", r"tokenizer is missing: .*vocab\.txt"),
        ("siglip", "spiece.model", r"tokenizer is missing: .*spiece\.model"),
        ("siglip2", "tokenizer.json", "tokenizer is missing"),
        ("oc_siglip2", "tokenizer.json", r"tokenizer is missing: .*tokenizer\.json"),
    ],
)
def test_a_folder_without_its_tokenizer(name: str, file: str, told: str, tmp_path: Path) -> None:
    shutil.copytree(FOLDER / name, tmp_path / name)
    (tmp_path / name / file).unlink()
    with pytest.raises(WeightsError, match=told):
        load_encoder(str(tmp_path / name))


def test_a_tokenizer_that_is_no_longer_the_model_s(tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "siglip", tmp_path / "w")
    encoder = load_encoder(str(tmp_path / "w"), "cpu")
    (tmp_path / "w/spiece.model").write_bytes(b"other")
    vocabulary._tokenizer.cache_clear()
    with pytest.raises(WeightsError, match=r"spiece\.model is missing or has changed"):
        encoder.texts(["a cat"])
    with pytest.raises(WeightsError, match="cannot read the tokenizer"):
        load_encoder(str(tmp_path / "w"), "cpu").texts(["a cat"])


@pytest.mark.parametrize(
    ("name", "file", "damage"),
    [
        ("siglip2", "tokenizer.json", b"{"),
        ("siglip2", "tokenizer.json", b"{}"),
        ("oc_siglip2", "tokenizer.json", b"[]"),
        ("siglip", "spiece.model", b""),
        ("chinese_clip", "vocab.txt", b"[PAD]\n\xff\xfe\n[UNK]\n"),
        ("chinese_clip", "vocab.txt", b"[PAD]\n[CLS]\n[SEP]\n"),
        ("chinese_clip", "tokenizer_config.json", b"[1]"),
        ("chinese_clip", "tokenizer_config.json", b"{bad"),
    ],
)
def test_a_damaged_tokenizer(name: str, file: str, damage: bytes, tmp_path: Path) -> None:
    shutil.copytree(FOLDER / name, tmp_path / "w")
    (tmp_path / "w" / file).write_bytes(damage)
    with pytest.raises(WeightsError, match=r"cannot read the tokenizer|is not JSON|does not hold a JSON object"):
        load_encoder(str(tmp_path / "w"), "cpu").texts(["a cat"])


def test_a_line_separator_is_a_piece_of_chinese_clip_s_vocabulary(tmp_path: Path) -> None:
    """The published vocab.txt has U+2028 in two of its lines: a piece's id is the number of its line feeds."""
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n\u2028\n##\u2028\n猫\na\n", encoding="utf-8")
    found = vocabulary.found_in(tmp_path, vocabulary.WORDPIECE, end="[PAD]", pad="[PAD]")
    assert vocabulary.piece_ids("a 猫", found) == [5, 4]
    vocabulary.check_rows(found, 6)


@pytest.mark.parametrize("more", [["一"] * 3, []])
def test_a_vocabulary_of_another_model(more: list[str], tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "chinese_clip", tmp_path / "w")
    path = tmp_path / "w/vocab.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines = [*lines, *(f"##{number}x" for number, _ in enumerate(more))] if more else lines[:-1]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(WeightsError, match=rf"has {len(lines)} pieces, and the model's embedding 458 rows"):
        load_encoder(str(tmp_path / "w"), "cpu").texts(["猫"])


def test_a_damaged_file_of_the_hub_s_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs/abc").write_bytes(b"x")
    (tmp_path / "vocab.txt").symlink_to(tmp_path / "blobs/abc")
    assert vocabulary.again(tmp_path / "vocab.txt") == f"Remove {tmp_path / 'blobs/abc'} to download it again."
    assert vocabulary.again(tmp_path / "blobs") == "Download it again."


@pytest.mark.parametrize("name", ["siglip2", "chinese_clip", "pe_core", "oc_quick"])
def test_jclip_s_calls_with_a_model_s_own_tokens(name: str) -> None:
    model, _ = clip.load(FOLDER / name)
    texts = ["a cat", "a dog"]
    found = model.encode_text(clip.tokenize(texts, model=model)).numpy()
    encoded = load_encoder(str(FOLDER / name), "cpu").texts(texts)
    np.testing.assert_allclose(found, encoded, atol=1e-4 * np.abs(encoded).max())
    if model.config.text_vocabulary.name:
        with pytest.raises(ValueError, match=r"tokenize\(…, model=model\)"):
            model.encode_text(clip.tokenize(texts, context_length=model.config.context_length))


def test_the_package_of_tokenizers_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    vocabulary._tokenizer.cache_clear()
    encoder = load_encoder(str(FOLDER / "chinese_clip"), "cpu")
    with pytest.raises(SetupError, match="needs the package tokenizers"):
        encoder.texts(["猫"])


def test_wordpiece_of_other_options_is_refused(tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "chinese_clip", tmp_path / "w")
    (tmp_path / "w/tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    with pytest.raises(WeightsError, match="do_lower_case = False"):
        load_encoder(str(tmp_path / "w"))
    (tmp_path / "w/tokenizer_config.json").unlink()
    (tmp_path / "w/vocab.txt").write_text("[CLS]\n[PAD]\n[SEP]\n")
    with pytest.raises(WeightsError, match=r"does not begin with \[PAD\]"):
        load_encoder(str(tmp_path / "w"))


def test_a_text_that_is_too_long_for_bert() -> None:
    config = load_encoder(str(FOLDER / "chinese_clip"), "cpu").source.config
    with pytest.raises(UsageError, match="has 62 tokens, more than CLIP's 52"):
        token_ids("猫" * 60, config.context_length, False, config.text_cleaning, config.text_vocabulary)


def test_the_configuration_names_the_parts(tmp_path: Path) -> None:
    """A SigLIP that is described as a CLIP is refused."""
    shutil.copytree(FOLDER / "siglip", tmp_path / "w")
    config = json.loads((tmp_path / "w/config.json").read_text())
    (tmp_path / "w/config.json").write_text(json.dumps({**config, "model_type": "clip"}))
    with pytest.raises(WeightsError):
        load_encoder(str(tmp_path / "w"))
    with pytest.raises(WeightsError, match=r"OpenAI has visual\.conv1\.bias = False"):
        load_encoder(str(tmp_path / "w"), model_config="openai")


def test_scale_and_bias_of_siglip() -> None:
    """SigLIP's scale is not limited to 100, and its bias is known; CLIP has none."""
    encoder = load_encoder(str(FOLDER / "siglip"), "cpu")
    with np.load(FOLDER / "siglip/golden.npz") as golden:
        assert encoder.logit_scale == pytest.approx(float(golden["logit_scale_exp"]), rel=1e-6)
        assert encoder.logit_bias == pytest.approx(float(golden["logit_bias"]), rel=1e-6)
    state = encoder._unbuilt
    louder = encoder.tuned(lambda base: {"logit_scale": base["logit_scale"] + 3})
    assert state
    assert louder.logit_scale > 400
    assert load_encoder(str(FOLDER / "oc_gelu"), "cpu").logit_bias == 0
