"""CLIP in Jittor, with the calls of uyzhang/JCLIP: `load`, `tokenize`, `encode_image`, `encode_text`.

Everything that needs Jittor is imported on first use, so that the names of this package cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["tokenize"]


def tokenize(texts: str | Sequence[str], context_length: int = 77, truncate: bool = False) -> Any:
    """Tokenise texts into a (len(texts), context_length) jt.Var of int32; see `tokenizer.token_ids`."""
    from jclip_adapter.runtime import jt

    from .tokenizer import token_ids

    return jt.array(token_ids(texts, context_length, truncate))
