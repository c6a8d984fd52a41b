"""CLIP's weight files: download, reading and conversion, without PyTorch and without executing pickles.

>>> sorted(KNOWN)[:3]
['RN101', 'RN50', 'RN50x16']
"""

from __future__ import annotations

from .confined import convert, load_weights
from .download import KNOWN, KnownWeights, resolve
from .reader import read_state_dict

__all__ = ["KNOWN", "KnownWeights", "convert", "load_weights", "read_state_dict", "resolve"]
