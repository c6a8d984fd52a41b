"""Few-shot image classification with CLIP in Jittor.

    from jclip_adapter import FewShotClassifier

    classifier = FewShotClassifier(model="ViT-B/32", method="tip-adapter").fit(photos, labels)
    classifier.predict(["new.jpg"])

`jclip_adapter.clip` has the calls of uyzhang/JCLIP, `jclip_adapter.methods` the methods on features.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .core.version import __version__

if TYPE_CHECKING:
    from .classifier import FewShotClassifier
    from .models import clip

__all__ = ["FewShotClassifier", "__version__", "clip"]


def __getattr__(name: str) -> Any:
    """Public names, imported when they are first used: scikit-learn takes a second."""
    if name == "FewShotClassifier":
        return importlib.import_module(f"{__name__}.classifier").FewShotClassifier
    if name == "clip":
        return importlib.import_module(f"{__name__}.models.clip")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
