"""Training photos: decoded once, cropped and flipped at random in every step."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from .decode import open_image, read_file
from .preprocess import INTERPOLATIONS, OPENAI, PixelTransform, square_pixels
from .reading import AS_SEEN, Reading

_KEPT_BYTES = 2_000_000_000  # of decoded photos kept in memory
_RATIO = 4 / 3  # largest aspect ratio of a crop
_TRIES = 10


def random_square(
    image: Image.Image,
    size: int,
    rng: np.random.Generator,
    smallest: float,
    transform: PixelTransform = OPENAI,
) -> npt.NDArray[np.uint8]:
    """Crop a random part of a photo, resize it and flip it with probability ½.

    The random resized crop of the methods' authors (Szegedy et al., "Going Deeper with Convolutions", 2015): uniform
    share of the area, log-uniform aspect ratio; after ten crops that do not fit, the largest centred one of an allowed
    ratio.

    Args:
        image: Any image that Pillow opens.
        size: Side of the result in pixels.
        rng: Random generator.
        smallest: Least share of the photo's area in a crop.
        transform: The model's; its interpolation and its order of resize and RGB conversion are used.

    Returns:
        (size, size, 3) uint8.
    """
    if transform.rgb_first:
        image = image.convert("RGB")
    left, top, width, height = _crop(image.width, image.height, rng, smallest)
    box = (left, top, left + width, top + height)
    square = image.crop(box).resize((size, size), INTERPOLATIONS[transform.interpolation]).convert("RGB")
    pixels = np.asarray(square, dtype=np.uint8)
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def _crop(width: int, height: int, rng: np.random.Generator, smallest: float) -> tuple[int, int, int, int]:
    """Left, top, width and height of a crop."""
    bound = math.log(_RATIO)
    for _ in range(_TRIES):
        area = width * height * rng.uniform(smallest, 1)
        ratio = math.exp(rng.uniform(-bound, bound))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            return int(rng.integers(width - across + 1)), int(rng.integers(height - down + 1)), across, down
    across, down = min(width, round(height * _RATIO)), min(height, round(width * _RATIO))
    return (width - across) // 2, (height - down) // 2, across, down


class TrainingPhotos:
    """The photos of a training, for `EncoderLink.pixels`.

    Args:
        paths: N photo files.
        size: Side of the model's input in pixels.
        transform: The model's.
        reading: How files are read.
    """

    def __init__(
        self, paths: Sequence[Path], size: int, transform: PixelTransform = OPENAI, reading: Reading = AS_SEEN
    ) -> None:
        self.paths = list(paths)
        self.size = size
        self.transform = transform
        self.reading = reading
        self._kept: OrderedDict[int, Image.Image] = OrderedDict()
        self._bytes = 0

    def __call__(
        self, rows: npt.NDArray[np.int64], rng: np.random.Generator | None, smallest: float
    ) -> npt.NDArray[np.uint8]:
        """Pixels of some photos.

        Args:
            rows: (B,) photo indices.
            rng: Random generator of crops and flips; None for CLIP's preprocessing.
            smallest: Least share of a photo's area in a crop.

        Returns:
            (B, size, size, 3) uint8.

        Raises:
            PhotoError: a photo cannot be read.
        """
        images = [self._image(int(row)) for row in rows]
        if rng is None:
            return np.stack([square_pixels(image, self.size, self.transform) for image in images])
        return np.stack([random_square(image, self.size, rng, smallest, self.transform) for image in images])

    def _image(self, number: int) -> Image.Image:
        """A photo, decoded or from memory."""
        if number in self._kept:
            return self._kept[number]
        path = self.paths[number]
        image = open_image(read_file(path), str(path), self.reading)
        self._kept[number] = image
        self._bytes += _size(image)
        while self._bytes > _KEPT_BYTES:
            self._bytes -= _size(self._kept.popitem(last=False)[1])
        return image


def _size(image: Image.Image) -> int:
    return image.width * image.height * len(image.getbands())
