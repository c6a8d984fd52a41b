"""The classes of the ImageNet-ESC benchmark, which are ImageNet classes and ESC-50 categories.

Lin et al., "Multimodality Helps Unimodality: Cross-Modal Few-Shot Learning with Multimodal Models", 2023
(arXiv:2301.06267).
"""

from __future__ import annotations

import csv
from functools import cache
from typing import NamedTuple

from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.resources import shipped
from jclip_adapter.storage import read_lines

SIZES = (19, 27)
"""Numbers of classes of the two benchmarks."""


class EscClass(NamedTuple):
    """A class of photos and sounds.

    Attributes:
        imagenet: ImageNet's index, 0 to 999.
        wordnet: WordNet's number, such as "n01514668".
        text: What the text encoder reads, without a template.
        category: ESC-50's category.
        target: ESC-50's number of the category.
    """

    imagenet: int
    wordnet: str
    text: str
    category: str
    target: int


def benchmark_classes(size: int) -> tuple[EscClass, ...]:
    """The classes of a benchmark, in the order of ImageNet's indices, which is that of the labels.

    Args:
        size: 19 or 27.

    Raises:
        UsageError: another size.

    >>> [each.category for each in benchmark_classes(27) if each not in benchmark_classes(19)][:3]
    ['can_opening', 'church_bells', 'crackling_fire']
    """
    if size not in SIZES:
        raise UsageError(f"expected 19 or 27 classes of ImageNet-ESC, got {size}.")
    return tuple(each for each, smallest in _table() if smallest <= size)


@cache
def _table() -> tuple[tuple[EscClass, int], ...]:
    rows = list(csv.reader(read_lines(shipped("prompts") / "imagenet_esc.csv")[1:]))
    return tuple((EscClass(int(a), b, c, d, int(e)), int(smallest)) for a, b, c, d, e, smallest in rows)
