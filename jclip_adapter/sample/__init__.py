"""The built-in sample: a picture-book data set and the program that pretrained its small CLIP. It is a toy."""

from .painter import ensure_sample
from .weights import SAMPLE_WEIGHTS, read_sample_weights

__all__ = ["SAMPLE_WEIGHTS", "ensure_sample", "read_sample_weights"]
