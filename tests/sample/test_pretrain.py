"""The pretraining: its captions, its pictures, and a few steps of it on two classes."""

from dataclasses import replace

import numpy as np
import pytest

from jclip_adapter.data.sample import read_sample_weights
from jclip_adapter.data.texts.prompts import available_prompts, load_prompts
from jclip_adapter.models.clip.tokenizer import END, START
from tools.sample import pretrain
from tools.sample.classes import CLASSES
from tools.sample.pretrain import Recipe, captions
from tools.sample.weights import write_sample_weights

TWO = (CLASSES[0], CLASSES[-1])
RECIPE = Recipe(pictures=2, glimpses=1, steps=10)
TINY = replace(pretrain.CONFIG, embed_dim=16, image_resolution=16, vision_layers=1, vision_width=64)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(pretrain, "CLASSES", TWO)
    monkeypatch.setattr(pretrain, "CONFIG", TINY)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.name)
def test_captions_hold_the_default_prompt_and_descriptions_hold_no_name(kind):
    sets = [load_prompts(name) for name in available_prompts()]
    named, described = captions(kind, sets)
    assert load_prompts("seed").texts(kind.name, domain=kind.domain)[0] in named
    assert len(named) == len(set(named)) > 10
    assert described
    assert all(kind.spoken.lower() not in text.lower() for text in described)


def test_pictures_of_the_book_come_before_the_glimpses(tiny):
    pictures = pretrain.draw_pictures(RECIPE)
    assert (pictures.shape, pictures.dtype) == ((2, 3, 16, 16, 3), np.uint8)
    np.testing.assert_array_equal(pictures, pretrain.draw_pictures(RECIPE))
    np.testing.assert_array_equal(pictures[:, :2], pretrain.draw_pictures(replace(RECIPE, glimpses=0)))


def test_a_few_steps_move_the_weights_and_keep_the_tokens(tiny, tmp_path):
    state, tokens = pretrain.pretrain(RECIPE)
    assert tokens[0] == 0
    assert tokens[-2:].tolist() == [START, END]
    assert state["token_embedding.weight"].shape == (len(tokens), TINY.transformer_width)
    assert all(np.isfinite(value).all() for value in state.values())
    start = np.log(RECIPE.scale)
    assert 0 < abs(state["logit_scale"] - start) < 0.1
    write_sample_weights(tmp_path / "w.safetensors", state, tokens, {})
    assert read_sample_weights(tmp_path / "w.safetensors")["token_embedding.weight"].shape == (49408, 64)
