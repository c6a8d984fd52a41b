"""Tokenizers: text cleaning, then CLIP's byte-pair encoding by instant-clip-tokenizer or a vocabulary's file."""

from __future__ import annotations

import functools
import html
import re
import string
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import UsageError

from .config import ClipConfig
from .vocabulary import CLIP, Vocabulary, check_rows, piece_ids, special_ids

CONTEXT_LENGTH = 77
VOCABULARY = 49408
START, END = 49406, 49407
SHORTEN = "Shorten the prompt (--prompts), or the class's words in class_names.yaml (--class-names)."
_SPECIAL = re.compile(r"(<\|startoftext\|>|<\|endoftext\|>)")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SPECIAL_IDS = {"<|startoftext|>": START, "<|endoftext|>": END}


def clean(text: str, cleaning: str = "openai") -> str:
    r"""Clean a text before tokenisation.

    Args:
        text: Any text.
        cleaning: "openai" (also open_clip's): repair mojibake, resolve HTML entities twice, collapse white space,
            lower case. "canonical" (open_clip's for SigLIP): the same without ASCII's punctuation, "_" as a blank.
            "hugging_face": Unicode NFC, collapse white space, lower case. "no_punctuation" (Hugging Face's for
            SigLIP): lower case, without ASCII's punctuation, collapse white space. "lower": lower case. "none".

    >>> clean("  A&amp;amp;B \n photo ")
    'a&b photo'
    >>> clean("  A&amp;B \n photo ", "hugging_face")
    'a&amp;b photo'
    >>> clean("hot_dog, it's&nbsp;HOT", "canonical"), clean("hot_dog, it's HOT", "no_punctuation")
    ('hot dog its hot', 'hotdog its hot')
    """
    if cleaning == "none":
        return text
    if cleaning == "lower":
        return text.lower()
    if cleaning == "hugging_face":
        text = unicodedata.normalize("NFC", text)
    elif cleaning == "no_punctuation":
        text = text.lower().translate(_NO_PUNCTUATION)
    else:
        import ftfy  # slow to import, and not needed by most commands

        text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
        if cleaning == "canonical":
            text = text.replace("_", " ").translate(_NO_PUNCTUATION)
    return re.sub(r"\s+", " ", text).strip().lower()


@functools.cache
def _encoder() -> Any:
    import instant_clip_tokenizer

    return instant_clip_tokenizer.Tokenizer()


def encode(text: str, cleaning: str = "openai", vocabulary: Vocabulary = CLIP) -> list[int]:
    """The token ids of a text, without start and end; the special tokens' literal names become their ids."""
    if vocabulary.name:
        return piece_ids(clean(text, cleaning), vocabulary)
    ids: list[int] = []
    for piece in _SPECIAL.split(clean(text, cleaning)):
        if piece in _SPECIAL_IDS:
            ids.append(_SPECIAL_IDS[piece])
        else:
            ids.extend(int(token) for token in _encoder().encode(piece))
    return ids


def word_ids(text: str, config: ClipConfig) -> list[int]:
    """`encode` with a model's text cleaning and vocabulary."""
    return encode(text, config.text_cleaning, config.text_vocabulary)


def around(vocabulary: Vocabulary) -> tuple[list[int], int, int]:
    """Ids before every text, of its end, and of the padding."""
    return special_ids(vocabulary) if vocabulary.name else ([START], END, 0)


def token_ids(
    texts: str | Sequence[str],
    context_length: int = CONTEXT_LENGTH,
    truncate: bool = False,
    cleaning: str = "openai",
    vocabulary: Vocabulary = CLIP,
) -> npt.NDArray[np.int32]:
    """Tokenise texts as openai/CLIP's `tokenize` does.

    Args:
        texts: One text or several.
        context_length: Width of the result, at least 2.
        truncate: Truncate longer texts, keeping the end token; otherwise they raise an error.
        cleaning: As for `clean`; a model's is `ClipConfig.text_cleaning`.
        vocabulary: The tokenizer; a model's is `ClipConfig.text_vocabulary`.

    Returns:
        (len(texts), context_length): start, tokens, end, padding.

    Raises:
        UsageError: a text is too long and `truncate` is off.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    start, end, padding = around(vocabulary)
    result = np.full((len(texts), context_length), padding, dtype=np.int32)
    for row, text in enumerate(texts):
        ids = [*start, *encode(text, cleaning, vocabulary), end]
        if len(ids) > context_length:
            if not truncate:
                raise UsageError(
                    f"the text {text[:60]!r}… has {len(ids)} tokens, more than CLIP's {context_length}.",
                    "Shorten it, or pass truncate=True.",
                )
            ids = [*ids[: context_length - 1], end]
        result[row, : len(ids)] = ids
    return result


def model_tokens(texts: str | Sequence[str], config: ClipConfig) -> npt.NDArray[np.int32]:
    """`token_ids` with a model's context length, text cleaning and vocabulary.

    Raises:
        UsageError: a text is too long.
        WeightsError: the tokenizer is not this model's.
    """
    if config.text_vocabulary.name:
        check_rows(config.text_vocabulary, config.vocab_size)
    try:
        return token_ids(texts, config.context_length, False, config.text_cleaning, config.text_vocabulary)
    except UsageError as error:
        raise UsageError(error.message, SHORTEN) from error
