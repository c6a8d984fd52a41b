"""What a configuration says of a CLIP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Description:
    """What a configuration says of a CLIP.

    Attributes:
        source: Where it was found, for messages.
        settings: Values for `ClipConfig`'s attributes that no weights hold; a missing one has OpenAI's value.
        sizes: Values of `ClipConfig`'s other attributes, with which the weights have to agree.
    """

    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, Any] = field(default_factory=dict)


OPENAI = Description("OpenAI")
