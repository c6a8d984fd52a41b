"""CLIP's preprocessing: resize, crop or pad, RGB, normalise. Without Jittor, so that child processes start quickly."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)
_LONGEST = 50  # largest aspect ratio that is resized without cropping first
VERSION = "openai-clip-bicubic-2"  # part of every stored feature's key: raise it when pixels change
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "lanczos": Image.Resampling.LANCZOS,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
RESIZES = ("shortest", "squash", "longest", "margin")
ROUNDINGS = ("even", "floor")


@dataclass(frozen=True)
class PixelTransform:
    """How a photo becomes a network's input. The defaults are OpenAI's.

    Attributes:
        mean: Mean of red, green and blue in 0 to 1.
        std: Standard deviation of red, green and blue.
        interpolation: One of `INTERPOLATIONS`, always antialiased.
        resize: "shortest" (the short side to `edge`, then the centre is cropped), "squash" (both sides to `edge`),
            "longest" (the long side to the input's, then padded), or "margin" (the networks of `backbones`).
        edge: Length in pixels of "shortest" and "squash"; 0 for the side of the input.
        fill: Value of the padding, 0 to 255.
        rgb_first: Convert to RGB before the resize (Hugging Face) instead of at the end (OpenAI, open_clip).
        crop_rounding: Rounding of the crop's left and top: "even" (torchvision, open_clip) or "floor" (Hugging Face).

    Raises:
        ValueError: a value is out of range.
    """

    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    interpolation: str = "bicubic"
    resize: str = "shortest"
    edge: int = 0
    fill: int = 0
    rgb_first: bool = False
    crop_rounding: str = "even"

    def __post_init__(self) -> None:
        for name, kinds in (
            ("interpolation", INTERPOLATIONS),
            ("resize", RESIZES),
            ("crop_rounding", ROUNDINGS),
        ):
            if getattr(self, name) not in kinds:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(kinds)}")
        for name, least, most in (("mean", -10.0, 10.0), ("std", 1e-6, 1e3)):
            values = getattr(self, name)
            if len(values) != 3 or not all(math.isfinite(value) and least <= value <= most for value in values):
                raise ValueError(f"{name} is {values!r}, expected three numbers of {least:g} to {most:g}")
        if not 0 <= self.edge <= 8192 or not 0 <= self.fill <= 255:
            raise ValueError(f"edge {self.edge} or fill {self.fill} is out of range")

    def as_dict(self) -> dict[str, Any]:
        """The attributes, for JSON."""
        return {**dataclasses.asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PixelTransform:
        """The transform from `as_dict`.

        Raises:
            TypeError: an unknown attribute, or a value of the wrong type.
            ValueError: a value is out of range.
        """
        return cls(**checked(cls(), values))


def checked(default: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Check the types of JSON values for a frozen dataclass.

    Args:
        default: An instance with default values, which give the types.
        values: Values by attribute; int for float and lists for tuples are accepted.

    Raises:
        TypeError: an unknown attribute, or a value of another type than the default's.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        if not hasattr(default, name):
            raise TypeError(f"unknown attribute {name!r}")
        expected = getattr(default, name)
        if isinstance(expected, tuple) and isinstance(value, list | tuple):
            if not all(isinstance(part, int | float) and not isinstance(part, bool) for part in value):
                raise TypeError(f"{name} is {value!r}, expected numbers")
            found[name] = tuple(float(part) for part in value)
        elif isinstance(expected, float) and isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = float(value)
        elif type(value) is type(expected):
            found[name] = value
        else:
            raise TypeError(f"{name} is {value!r}, expected {type(expected).__name__}")
    return found


OPENAI = PixelTransform()


def square_pixels(image: Image.Image, size: int, transform: PixelTransform = OPENAI) -> npt.NDArray[np.uint8]:
    """Resize and crop an image to CLIP's square input.

    OpenAI's transform converts to RGB last: so palette and 1-bit images are resized with nearest neighbours, RGBA with
    premultiplied alpha, and CMYK in CMYK.

    Args:
        image: Any image that Pillow opens.
        size: Side of the result in pixels.
        transform: The transform; not "margin".

    Returns:
        (size, size, 3) uint8.
    """
    if transform.rgb_first:
        image = image.convert("RGB")
    edge = transform.edge or size
    if transform.resize == "shortest":
        image = _shortest(image, edge, transform)
    elif transform.resize == "squash":
        image = image.resize((edge, edge), INTERPOLATIONS[transform.interpolation])
    else:
        image = _longest(image, size, transform)
    return np.asarray(_crop_centre(image, size, transform).convert("RGB"), dtype=np.uint8)


def _shortest(image: Image.Image, edge: int, transform: PixelTransform) -> Image.Image:
    """Resize the short side to `edge`, the long side in proportion, rounded down."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    if long > _LONGEST * short:
        # A 1×60000 image would take gigabytes when resized; so it is cropped first.
        margin = (long - _LONGEST * short) // 2
        box = (0, margin, width, height - margin) if height > width else (margin, 0, width - margin, height)
        image = image.crop(box)
        width, height = image.size
        long = max(width, height)
    if short == edge:
        return image
    scaled = int(edge * long / short)
    size = (edge, scaled) if width <= height else (scaled, edge)
    return image.resize(size, INTERPOLATIONS[transform.interpolation])


def _longest(image: Image.Image, size: int, transform: PixelTransform) -> Image.Image:
    """Resize the long side to `size`, centred on a square of `transform.fill`."""
    width, height = image.size
    ratio = max(width, height) / size
    width, height = max(1, round(width / ratio)), max(1, round(height / ratio))
    image = image.resize((width, height), INTERPOLATIONS[transform.interpolation])
    bands = len(image.getbands())
    square = Image.new(image.mode, (size, size), transform.fill if bands == 1 else (transform.fill,) * bands)
    palette = image.getpalette()
    if palette is not None:
        square.putpalette(palette)
    square.paste(image, ((size - width) // 2, (size - height) // 2))
    return square


def _crop_centre(image: Image.Image, size: int, transform: PixelTransform) -> Image.Image:
    width, height = image.size
    if transform.crop_rounding == "floor":
        left, top = (width - size) // 2, (height - size) // 2
    else:
        left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    return image.crop((left, top, left + size, top + size))


def normalise_pixels(pixels: npt.NDArray[np.uint8], transform: PixelTransform = OPENAI) -> npt.NDArray[np.float32]:
    """uint8 (…, n, n, 3) → float32 (…, 3, n, n): divide by 255, subtract the mean, divide by the deviation."""
    mean, std = np.array(transform.mean, np.float32), np.array(transform.std, np.float32)
    scaled = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(np.moveaxis(scaled, -1, -3))


class Preprocess:
    """The preprocessing that `clip.load` returns: an image in, model input out.

    Args:
        size: Side of the model's input in pixels.
        transform: The model's.
    """

    def __init__(self, size: int, transform: PixelTransform = OPENAI) -> None:
        self.size = size
        self.transform = transform

    def pixels(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """(3, size, size) float32."""
        return normalise_pixels(square_pixels(image, self.size, self.transform), self.transform)

    def __call__(self, image: Image.Image) -> Any:
        """(3, size, size) jt.Var, as JCLIP's preprocess returns."""
        from jclip_adapter.runtime import jt

        return jt.array(self.pixels(image))
