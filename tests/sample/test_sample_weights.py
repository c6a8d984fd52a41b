"""The sample's weight file: small, with OpenAI's keys, and read as it was written."""

import csv
import json

import numpy as np
import pytest

from jclip_adapter import storage
from jclip_adapter.core.errors import DataError, WeightsError
from jclip_adapter.data.sample import SAMPLE_WEIGHTS, VOCABULARY, read_sample_weights
from jclip_adapter.data.texts.prompts import available_prompts, load_prompts
from jclip_adapter.models.clip.config import infer_config
from jclip_adapter.models.clip.tokenizer import token_ids
from tools.sample.classes import CLASSES
from tools.sample.weights import write_sample_weights


@pytest.fixture(scope="module")
def state():
    return read_sample_weights()


def test_the_file_is_small():
    assert SAMPLE_WEIGHTS.stat().st_size <= 4_000_000


def test_it_holds_a_clip_of_openai_s_key_names(state):
    config = infer_config(state)
    assert config.is_vit
    assert (config.vocab_size, config.context_length) == (VOCABULARY, 77)
    assert all(value.dtype == np.float32 and np.isfinite(value).all() for value in state.values())
    assert {"visual.class_embedding", "visual.transformer.resblocks.0.attn.in_proj_weight", "logit_scale"} <= set(state)


def test_jittor_s_model_takes_it(state):
    from jclip_adapter.models.clip.model import build_model, state_arrays

    kept = state_arrays(build_model(state))
    assert kept.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(kept[name], value, err_msg=name)


def test_every_english_prompt_of_the_project_has_tokens_of_its_own(state):
    arrays, _ = storage.read_safetensors(SAMPLE_WEIGHTS)
    known = set(arrays["token_embedding.ids"].tolist())
    for name in set(available_prompts()) - {"zh"}:  # which the sample's CLIP is refused
        prompts = load_prompts(name)
        for kind in CLASSES:
            used = np.unique(token_ids(list(prompts.texts(kind.name, domain=kind.domain))))
            assert set(used.tolist()) <= known, (name, kind.name)


def test_the_card_tells_of_this_file():
    card = json.loads((SAMPLE_WEIGHTS.parent / "card.json").read_text(encoding="utf-8"))
    assert card["sha256"] == storage.sha256_file(SAMPLE_WEIGHTS)
    assert card["bytes"] == SAMPLE_WEIGHTS.stat().st_size
    assert "toy" in card["what"]
    total = next(row for row in card["zero_shot"] if row["domain"] == "total")
    assert 45 <= 100 * total["top1"] <= 70


def tiny_state(rows):
    rng = np.random.default_rng(0)
    return {
        "visual.proj": rng.standard_normal((4, 3)).astype(np.float32),
        "logit_scale": np.array(2.5, np.float32),
        "token_embedding.weight": rng.standard_normal((rows, 5)).astype(np.float32),
    }


def test_what_is_written_is_read(tmp_path):
    written, ids = tiny_state(3), [0, 320, 49407]
    write_sample_weights(tmp_path / "w.safetensors", written, ids, {"note": "a toy"})
    found = read_sample_weights(tmp_path / "w.safetensors")
    assert found.keys() == written.keys()
    half = {name: value.astype(np.float16).astype(np.float32) for name, value in written.items()}
    np.testing.assert_array_equal(found["visual.proj"], half["visual.proj"])
    assert found["logit_scale"].shape == ()
    table = found["token_embedding.weight"]
    assert table.shape == (VOCABULARY, 5)
    np.testing.assert_array_equal(table[ids], half["token_embedding.weight"])
    np.testing.assert_allclose(table[1], half["token_embedding.weight"].mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(table[1], table[2])
    write_sample_weights(tmp_path / "again.safetensors", written, ids, {"note": "a toy"})
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "w.safetensors").read_bytes()


@pytest.mark.parametrize("ids", [[0, 1], [0, 1, VOCABULARY], [2, 1, 3], [0, 0, 1]])
def test_tokens_that_do_not_fit_the_rows_are_refused(tmp_path, ids):
    with pytest.raises(ValueError, match="tokens"):
        write_sample_weights(tmp_path / "w.safetensors", tiny_state(3), ids, {})
    assert list(tmp_path.iterdir()) == []


def test_another_file_is_refused(tmp_path):
    storage.write_safetensors(tmp_path / "w.safetensors", {"visual.proj": np.zeros((2, 2), np.float32)}, {})
    with pytest.raises(WeightsError, match=r"does not hold the sample's weights.*clip\.safetensors"):
        read_sample_weights(tmp_path / "w.safetensors")


def test_a_damaged_file_is_told(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(SAMPLE_WEIGHTS.read_bytes()[:5000])
    with pytest.raises(DataError, match="cannot read"):
        read_sample_weights(tmp_path / "w.safetensors")


def test_the_committed_figures_keep_the_sample_s_promise():
    """The adapter gains at least 5 points with every seed, on a zero-shot that is neither lost nor done."""
    lines = (SAMPLE_WEIGHTS.parents[2] / "results" / "sample.csv").read_text(encoding="utf-8").splitlines()
    rows = list(csv.DictReader(lines))
    zero, adapted = rows[0], rows[1:]
    assert (zero["method"], len(adapted)) == ("zero-shot", 5)
    assert {row["method"] for row in adapted} == {"jclip-adapter"}
    assert all(float(row["top1"]) - float(zero["top1"]) >= 0.05 for row in adapted)
    card = json.loads((SAMPLE_WEIGHTS.parent / "card.json").read_text(encoding="utf-8"))
    top1 = {row["domain"]: row["top1"] for row in card["zero_shot"]}
    assert top1["total"] == pytest.approx(float(zero["top1"]), abs=1e-4)
    assert min(top1, key=lambda domain: top1[domain]) == "Thu-dog"
