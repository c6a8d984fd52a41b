"""Configurations of CLIPs by OpenAI, open_clip and Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Description:
    """A configuration of a CLIP.

    Attributes:
        source: Its origin, for messages.
        settings: Values of `ClipConfig`'s attributes in `SETTINGS`; OpenAI's values where missing.
        sizes: Values of `ClipConfig`'s other attributes, which must agree with the weights.
    """

    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, Any] = field(default_factory=dict)


OPENAI = Description("OpenAI")
