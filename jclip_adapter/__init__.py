"""Few-shot image classification with CLIP in Jittor."""

__version__ = "0.1.0"
