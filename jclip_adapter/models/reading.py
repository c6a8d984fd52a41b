"""Which letters a model's tokenizer reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_NOWHERE = "\N{CUNEIFORM SIGN A}"  # in no vocabulary of a CLIP


def unread_share(texts: Iterable[str], tokenise: Callable[[Sequence[str]], npt.NDArray[np.integer[Any]]]) -> float:
    """The share of the texts' letters that a tokenizer has no piece for.

    Tokenizers with an unknown token (WordPiece, SentencePiece) give it for such a letter; those of bytes (CLIP's,
    Gemma's) cut the letter into pieces. So a letter is read if, written twice, it has at most one token more, and if it
    does not end in the token of a letter that no vocabulary has. ASCII's letters count as read.

    Args:
        texts: The texts.
        tokenise: B texts to (B, L) token ids with start, end and padding.

    Returns:
        0 to 1; 0 without letters.
    """
    letters = Counter(letter for text in texts for letter in text if letter.isalpha())
    others = [letter for letter in letters if not letter.isascii()]
    if not others:
        return 0.0
    blank, *rows = tokenise(["", _NOWHERE, *others, *(2 * letter for letter in others)]).tolist()
    pieces = [[token for token in row if token not in blank] for row in rows]
    unknown, once, twice = pieces[0], pieces[1 : 1 + len(others)], pieces[1 + len(others) :]
    unread = [
        letter
        for letter, short, long in zip(others, once, twice, strict=True)
        if len(long) > len(short) + 1 or short[-1:] == unknown[-1:]
    ]
    return sum(letters[letter] for letter in unread) / letters.total()
