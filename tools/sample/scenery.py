"""What is behind and in front of a subject, and the light on the finished photo."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from .canvas import Colour, Style, shade

_PASTEL: tuple[Colour, ...] = (
    (236, 222, 196), (206, 226, 236), (214, 232, 206), (240, 214, 214), (226, 216, 238), (250, 240, 200),
)  # fmt: skip
_WALLS: tuple[Colour, ...] = (
    (198, 178, 148), (150, 170, 178), (168, 180, 150), (190, 150, 140), (140, 130, 150), (206, 196, 176),
)  # fmt: skip
_GRASS: tuple[Colour, ...] = ((112, 150, 78), (140, 160, 84), (90, 128, 82), (170, 160, 96))
_SKY: tuple[Colour, ...] = ((168, 204, 230), (200, 214, 224), (238, 206, 170), (146, 180, 214))
_FLOOR: tuple[Colour, ...] = ((150, 112, 78), (180, 150, 112), (120, 100, 90), (176, 168, 158))


def _any(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    return colours[int(rng.integers(len(colours)))]


def _plain(image: Image.Image, rng: np.random.Generator) -> None:
    image.paste(_any(rng, _PASTEL), (0, 0, *image.size))


def _gradient(image: Image.Image, rng: np.random.Generator) -> None:
    top, bottom = np.array(_any(rng, _PASTEL), float), np.array(_any(rng, _WALLS), float)
    share = np.linspace(0, 1, image.height)[:, None]
    column = (top * (1 - share) + bottom * share).round().astype(np.uint8)[:, None, :]
    image.paste(Image.fromarray(np.repeat(column, image.width, axis=1)))


def _dots(image: Image.Image, rng: np.random.Generator) -> None:
    ground = _any(rng, _PASTEL)
    image.paste(ground, (0, 0, *image.size))
    draw, step = ImageDraw.Draw(image), image.width // int(rng.integers(5, 9))
    radius, colour = step * rng.uniform(0.12, 0.25), shade(ground, 0.86)
    for row, y in enumerate(range(0, image.height + step, step)):
        for x in range(0, image.width + step, step):
            cx = x + (step // 2 if row % 2 else 0)
            draw.ellipse((cx - radius, y - radius, cx + radius, y + radius), fill=colour)


def _stripes(image: Image.Image, rng: np.random.Generator) -> None:
    ground = _any(rng, _PASTEL)
    image.paste(ground, (0, 0, *image.size))
    draw, step = ImageDraw.Draw(image), image.width // int(rng.integers(6, 11))
    for x in range(-image.width, image.width, step):
        draw.line([(x, 0), (x + image.height, image.height)], fill=shade(ground, 0.9), width=step // 2)


def _meadow(image: Image.Image, rng: np.random.Generator) -> None:
    width, height = image.size
    sky, grass = _any(rng, _SKY), _any(rng, _GRASS)
    image.paste(sky, (0, 0, width, height))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(0, 3))):
        x, y, size = rng.uniform(0, width), rng.uniform(0, height * 0.3), width * rng.uniform(0.06, 0.12)
        for offset in (-1.0, 0.0, 1.0):
            cx, r = x + offset * size, size * (1.0 if offset == 0 else 0.7)
            draw.ellipse((cx - r, y - r * 0.7, cx + r, y + r * 0.7), fill=shade(sky, 1.6))
    horizon = height * rng.uniform(0.42, 0.68)
    xs = np.linspace(0, width, 16)
    for depth, tone in ((0.0, 0.85), (0.1, 1.0)):
        wave = horizon + depth * height + height * 0.04 * np.sin(xs / width * rng.uniform(4, 9) + rng.uniform(0, 6))
        hill = [(float(x), float(y)) for x, y in zip(xs, wave, strict=True)]
        draw.polygon([(0, height), *hill, (width, height)], fill=shade(grass, tone))
    for _ in range(24):
        x, y = rng.uniform(0, width), rng.uniform(horizon + 0.14 * height, height)
        draw.line(
            [(x, y), (x + rng.uniform(-3, 3), y - height * 0.04)], fill=shade(grass, rng.uniform(0.7, 1.3)), width=2
        )


def _room(image: Image.Image, rng: np.random.Generator) -> None:
    width, height = image.size
    wall, floor = _any(rng, _WALLS), _any(rng, _FLOOR)
    image.paste(wall, (0, 0, width, height))
    draw, edge = ImageDraw.Draw(image), height * rng.uniform(0.55, 0.8)
    draw.rectangle((0, edge, width, height), fill=floor)
    draw.rectangle((0, edge, width, edge + height * 0.03), fill=shade(wall, 1.4))
    if rng.random() < 0.6:
        x, y, size = rng.uniform(0, width * 0.8), rng.uniform(0, height * 0.2), width * rng.uniform(0.15, 0.3)
        draw.rectangle((x, y, x + size, y + size * 1.2), fill=shade(wall, 1.5), outline=shade(wall, 0.6), width=3)
    for offset in np.linspace(-0.6, 1.6, 8):
        draw.line(
            [(width * offset, height), (width * (0.5 + (offset - 0.5) * 0.7), edge)], fill=shade(floor, 0.88), width=2
        )


def _bokeh(image: Image.Image, rng: np.random.Generator) -> None:
    base = _any(rng, _WALLS + _GRASS)
    image.paste(shade(base, 0.8), (0, 0, *image.size))
    draw = ImageDraw.Draw(image)
    for _ in range(26):
        x, y = rng.uniform(0, image.width), rng.uniform(0, image.height)
        radius = image.width * rng.uniform(0.03, 0.14)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shade(base, rng.uniform(0.6, 1.35)))
    image.paste(image.filter(ImageFilter.GaussianBlur(image.width / 40)))


BACKGROUNDS: dict[str, Callable[[Image.Image, np.random.Generator], None]] = {
    "plain": _plain,
    "gradient": _gradient,
    "dots": _dots,
    "stripes": _stripes,
    "meadow": _meadow,
    "room": _room,
    "bokeh": _bokeh,
}


def paint_background(image: Image.Image, style: Style, rng: np.random.Generator) -> None:
    """Fill the image with one of the style's backgrounds."""
    BACKGROUNDS[style.backgrounds[int(rng.integers(len(style.backgrounds)))]](image, rng)


def paint_clutter(image: Image.Image, style: Style, rng: np.random.Generator) -> None:
    """By chance, put grass blades, a branch or a ball before the subject, near the photo's edge."""
    if rng.random() >= style.clutter:
        return
    width, height = image.size
    draw, kind = ImageDraw.Draw(image), int(rng.integers(3))
    if kind == 0:
        colour = _any(rng, _GRASS)
        for x in rng.uniform(0, width, 26):
            top = height * rng.uniform(0.74, 0.95)
            blade = [
                (x - width * 0.015, height),
                (x + width * 0.015, height),
                (x + rng.uniform(-0.03, 0.03) * width, top),
            ]
            draw.polygon(blade, fill=shade(colour, rng.uniform(0.7, 1.2)))
    elif kind == 1:
        y, bend = height * rng.uniform(0.02, 0.12), height * rng.uniform(-0.05, 0.08)
        draw.line([(0, y), (width / 2, y + bend), (width, y)], fill=(96, 74, 52), width=width // 40)
        for x in rng.uniform(0, width, 12):
            draw.ellipse(
                (x, y - 2, x + width * 0.07, y + height * 0.05), fill=shade(_any(rng, _GRASS), rng.uniform(0.7, 1.2))
            )
    else:
        x, y, radius = (
            width * rng.choice([0.06, 0.94]),
            height * rng.uniform(0.75, 0.95),
            width * rng.uniform(0.07, 0.12),
        )
        colour = _any(rng, ((200, 70, 60), (70, 110, 180), (230, 190, 70)))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        draw.arc((x - radius, y - radius, x + radius, y + radius), 20, 200, fill=shade(colour, 1.5), width=width // 60)


def grade(image: Image.Image, style: Style, rng: np.random.Generator) -> Image.Image:
    """Put the style's colours, light, blur and noise on a finished photo.

    The hue turns around the grey axis: a rotation of the colour cube, so that greys stay grey.
    """
    radius = rng.uniform(*style.blur)
    if radius > 0:
        image = image.filter(ImageFilter.GaussianBlur(radius))
    pixels = np.asarray(image, dtype=np.float64) @ _colour_matrix(style.hue, style.saturation).T
    gain = rng.uniform(*style.light) * np.exp(rng.normal(0, style.cast, 3)) * np.array(style.tint)
    fall = np.linspace(1 + rng.uniform(-0.12, 0.12), 1, image.height)[:, None, None]
    pixels = pixels * gain * fall + style.noise * rng.standard_normal(pixels.shape)
    return Image.fromarray(np.clip(pixels.round(), 0, 255).astype(np.uint8))


def _colour_matrix(hue: float, saturation: float) -> npt.NDArray[np.float64]:
    angle = math.radians(hue)
    grey = np.full((3, 3), 1 / 3)
    axis = 1 / math.sqrt(3)
    cross = axis * np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
    turn = math.cos(angle) * (np.eye(3) - grey) + math.sin(angle) * cross
    return grey + saturation * turn
