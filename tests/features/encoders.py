"""Stand-ins for networks: fast, and simple enough to be predicted."""

import hashlib
import os
import time
from pathlib import Path

import numpy as np

from jclip_adapter.data.photos.preprocess import OPENAI
from jclip_adapter.data.photos.reading import AS_SEEN
from jclip_adapter.models.base import ImageEncoder


class MeanColour(ImageEncoder):
    """A photo's feature is its mean colour.

    Attributes:
        calls: How often it was called.
    """

    has_text = False
    weights, sha256, batch_size, precision, reading = Path("mean-colour"), "0" * 64, 4, "float32", AS_SEEN
    image_size, width, logit_scale, parameters, transform = 8, 3, 1.0, 0, OPENAI

    def __init__(self):
        self.calls = 0

    def image_key(self):
        return "mean colour"

    def _make_image_tower(self):
        raise NotImplementedError

    def images(self, pixels):
        self.calls += 1
        return pixels.astype(np.float32).mean(axis=(1, 2))


class Logged(MeanColour):
    """Takes its time, and notes each photo that it encodes: a line with the process and the photo's digest.

    Args:
        log: The file.
        seconds: Per batch.
    """

    def __init__(self, log: Path, seconds: float = 0.0):
        super().__init__()
        self.log, self.seconds = Path(log), seconds

    def images(self, pixels):
        lines = "".join(f"{os.getpid()} {hashlib.sha256(each.tobytes()).hexdigest()}\n" for each in pixels)
        with self.log.open("a") as handle:  # short lines of several processes do not mix
            handle.write(lines)
        time.sleep(self.seconds)
        return super().images(pixels)
