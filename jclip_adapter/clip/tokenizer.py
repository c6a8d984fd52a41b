"""CLIP's tokenizer: its text cleaning, then byte-pair encoding by instant-clip-tokenizer."""

from __future__ import annotations

import functools
import html
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.errors import UsageError

from .config import ClipConfig

CONTEXT_LENGTH = 77
VOCABULARY = 49408
START, END = 49406, 49407
_SPECIAL = re.compile(r"(<\|startoftext\|>|<\|endoftext\|>)")
_SPECIAL_IDS = {"<|startoftext|>": START, "<|endoftext|>": END}


def clean(text: str, cleaning: str = "openai") -> str:
    r"""What is done to a text before its tokens are looked up.

    Args:
        text: Any text.
        cleaning: "openai" (also open_clip's): repair mojibake, resolve HTML entities twice, collapse white space,
            lower case. "hugging_face": Unicode NFC, collapse white space, lower case.

    >>> clean("  A&amp;amp;B \n photo ")
    'a&b photo'
    >>> clean("  A&amp;B \n photo ", "hugging_face")
    'a&amp;b photo'
    """
    if cleaning == "hugging_face":
        return re.sub(r"\s+", " ", unicodedata.normalize("NFC", text)).strip().lower()
    import ftfy  # its tables take a while, and most commands read no text

    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return re.sub(r"\s+", " ", text).strip().lower()


@functools.cache
def _encoder() -> Any:
    import instant_clip_tokenizer

    return instant_clip_tokenizer.Tokenizer()


def encode(text: str, cleaning: str = "openai") -> list[int]:
    """The token ids of a text, without start and end; the special tokens' literal names become their ids."""
    ids: list[int] = []
    for piece in _SPECIAL.split(clean(text, cleaning)):
        if piece in _SPECIAL_IDS:
            ids.append(_SPECIAL_IDS[piece])
        else:
            ids.extend(int(token) for token in _encoder().encode(piece))
    return ids


def token_ids(
    texts: str | Sequence[str],
    context_length: int = CONTEXT_LENGTH,
    truncate: bool = False,
    cleaning: str = "openai",
) -> npt.NDArray[np.int32]:
    """Tokenise texts as openai/CLIP's `tokenize` does.

    Args:
        texts: One text or several.
        context_length: Width of the result, at least 2.
        truncate: Cut longer texts, their last token becoming the end of text; otherwise they are refused.
        cleaning: As for `clean`; a model's is `ClipConfig.text_cleaning`.

    Returns:
        (len(texts), context_length): start, tokens, end, zeros.

    Raises:
        UsageError: a text is too long and `truncate` is off.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    result = np.zeros((len(texts), context_length), dtype=np.int32)
    for row, text in enumerate(texts):
        ids = [START, *encode(text, cleaning), END]
        if len(ids) > context_length:
            if not truncate:
                raise UsageError(
                    f"the text {text[:60]!r}… has {len(ids)} tokens, but CLIP reads {context_length}.",
                    "Shorten it, or pass truncate=True.",
                )
            ids = [*ids[: context_length - 1], END]
        result[row, : len(ids)] = ids
    return result


def model_tokens(texts: str | Sequence[str], config: ClipConfig) -> npt.NDArray[np.int32]:
    """`token_ids` for a model: of its context length, and with its text cleaning.

    Raises:
        UsageError: a text is too long.
    """
    try:
        return token_ids(texts, config.context_length, cleaning=config.text_cleaning)
    except UsageError as error:
        raise UsageError(
            error.message, "Shorten the prompt (--prompts), or the class's words in class_names.yaml (--class-names)."
        ) from error
