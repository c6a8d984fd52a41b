"""Configurations of CLIPs by OpenAI, open_clip and Hugging Face."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jclip_adapter.models.clip.config import OPENAI_PARTS, ClipConfig, only


@dataclass(frozen=True)
class Description:
    """A configuration of a CLIP.

    Attributes:
        source: Its origin, for messages.
        settings: Values of `ClipConfig`'s attributes in `SETTINGS`; OpenAI's values where missing.
        sizes: Values of `ClipConfig`'s other attributes, and whether it has a part of `config.OPTIONAL`, which must
            agree with the weights.
        by_sizes: More settings, which depend on the sizes; None for none.
    """

    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, Any] = field(default_factory=dict)
    by_sizes: Callable[[ClipConfig], Mapping[str, Any]] | None = None


OPENAI = Description("OpenAI", {}, only(*OPENAI_PARTS))
