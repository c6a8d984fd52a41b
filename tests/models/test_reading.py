"""Letters that tokenizers read: CLIP's own, and three small ones that mark or cut what they do not know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jclip_adapter.data.texts.prompts import load_prompts
from jclip_adapter.features.encoding import MOST_UNREAD
from jclip_adapter.models.clip.encoder import load_encoder
from jclip_adapter.models.clip.tokenizer import model_tokens, token_ids
from jclip_adapter.models.reading import unread_share
from tests import ROOT
from tests.conftest import Cli

LONGEST = 40
KNOWN = "一张猫的照片"
Encode = Callable[[str], list[int]]


def tokenise(encode: Encode) -> Callable[[Sequence[str]], np.ndarray]:
    """Rows of 1, ids, 2, zeros."""

    def rows(texts: Sequence[str]) -> np.ndarray:
        return np.array([([1, *encode(text), 2] + [0] * LONGEST)[:LONGEST] for text in texts])

    return rows


def word_piece(text: str) -> list[int]:
    """A token per letter, 100 for an unknown one."""
    return [1000 + KNOWN.index(letter) if letter in KNOWN else 100 for letter in text]


def unigram(text: str) -> list[int]:
    """A token for the blank before the text, and one unknown token for a run of unknown letters."""
    ids = word_piece(text)
    return [500, *(token for at, token in enumerate(ids) if token != 100 or ids[at - 1 : at] != [100])] if text else []


def with_bytes(text: str) -> list[int]:
    """The bytes of an unknown letter."""
    return [
        token
        for letter in text
        for token in ([1000 + KNOWN.index(letter)] if letter in KNOWN else [10 + byte for byte in letter.encode()])
    ]


@pytest.mark.parametrize("encode", [word_piece, unigram, with_bytes])
def test_share_of_letters_without_a_piece(encode: Encode) -> None:
    rows = tokenise(encode)
    assert unread_share(["一张猫的照片", "猫"], rows) == 0
    assert unread_share(["犬", "狼犬"], rows) == 1
    assert unread_share(["一张犬的照片"], rows) == pytest.approx(1 / 6)
    assert unread_share(["A photo of 猫", "12, 34", ""], rows) == 0


def test_letters_of_openai_s_vocabulary() -> None:
    assert unread_share(["a photo of crème fraîche, Müller's façade"], token_ids) == 0
    assert unread_share(["狼", "犬"], token_ids) == 1
    assert unread_share(["a photo of 猫"], token_ids) == pytest.approx(1 / 9)


def test_prompts_that_the_model_cannot_read_are_refused(workplace: Path, cli: Cli) -> None:
    """The data set's names are English: the prompts are what it cannot read."""
    done = cli("--train", "--weights", "tiny.pkl", "--method", "tip-adapter", "--prompts", "zh")
    assert done.status == 2
    assert "tiny.pkl cannot read the prompts 'zh': its tokenizer has no pieces for " in done.err
    assert "chinese-clip-vit-base-patch16" in done.err
    assert not Path("results/runs").exists()


def test_class_names_that_become_the_same_tokens_are_refused(tmp_path: Path, cli: Cli) -> None:
    """The prompts are English but for the names, which SigLIP's small vocabulary lacks."""
    for name in ("猫", "狗", "熊"):
        (tmp_path / "zh" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / "zh" / name / f"{number}.png")
    weights = ROOT / "tests/golden/models/siglip"
    done = cli("--train", "--data", tmp_path / "zh", "--weights", weights, "--method", "tip-adapter", "--shots", 1)
    assert done.status == 2
    assert "cannot read the prompts 'seed': it turns the names of 3 classes into 1 text" in done.err
    assert "or --prompts zh with a model that reads Chinese" in done.err


def test_chinese_clip_s_tokenizer_reads_the_chinese_prompts(workplace: Path, cli: Cli) -> None:
    """This small model's vocabulary lacks some letters: those, and no others, count as unread."""
    prompts, folder = load_prompts("zh"), ROOT / "tests/golden/models/chinese_clip"
    texts = [text for name in sorted(prompts.spellings) for text in prompts.texts(name)]
    letters = [letter for text in texts for letter in text.lower() if letter.isalpha() and not letter.isascii()]
    known = set((folder / "vocab.txt").read_text(encoding="utf-8").split())
    missing = sum(letter not in known for letter in letters)
    config = load_encoder(str(folder), "cpu").source.config
    assert unread_share(letters, partial(model_tokens, config=config)) == pytest.approx(missing / len(letters))
    assert missing / len(letters) < MOST_UNREAD
    assert cli("--train", "--weights", str(folder), "--method", "tip-adapter", "--prompts", "zh").status == 0


def test_a_set_of_latin_letters_is_read() -> None:
    seed, names = load_prompts("seed"), ("Food-101_creme_brulee", "Animal_Bear")
    assert unread_share([text for name in names for text in seed.texts(name)], token_ids) == 0
