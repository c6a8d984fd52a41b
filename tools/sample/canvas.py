"""The pen that every picture is drawn with: shapes in unit coordinates, in one style, through one pose.

A subject is drawn in a square from −1 to 1 (x to the right, y downwards). The pen maps it to pixels by the
photo's pose (scale, shift, rotation, flip) and bends it by a smooth warp, so that no two photos of a class share
an outline; the outline's width and the shading come from the style.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]

_CORNERS = 12  # polygons of fewer corners get rounded joints; denser ones are smooth already
_OVAL_POINTS = 30
_CURVE_STEPS = 6


@dataclass(frozen=True)
class Style:
    """How a set of pictures is drawn.

    Args:
        name: What the style is called.
        outline: Width of the outline in unit coordinates (the picture is 2 wide); 0 draws none.
        ink: How dark the outline is: 0 is black, 1 the colour of the part itself.
        shading: Strength of the shade on round parts, 0 to 1.
        warp: Amplitude of the smooth bending in unit coordinates.
        scale: Smallest and largest size of the subject.
        turn: Largest rotation to either side, in degrees.
        shift: Largest displacement in unit coordinates.
        backgrounds: Kinds of background to draw from, see `scenery.BACKGROUNDS`.
        clutter: Chance that something stands in front of the subject.
        hue: Rotation of all hues, in degrees.
        saturation: Factor on the saturation.
        light: Range of the photo's brightness, as a factor.
        cast: Standard deviation of the random colour cast, as a factor per channel.
        tint: Factor per channel (red, green, blue) that all photos of the style share.
        noise: Standard deviation of the pixel noise, in grey levels of 255.
        blur: Range of the blur's radius in pixels of the finished photo.
    """

    name: str
    outline: float = 0.03
    ink: float = 0.25
    shading: float = 0.5
    warp: float = 0.03
    scale: tuple[float, float] = (0.72, 0.98)
    turn: float = 12.0
    shift: float = 0.16
    backgrounds: tuple[str, ...] = ("plain",)
    clutter: float = 0.0
    hue: float = 0.0
    saturation: float = 1.0
    light: tuple[float, float] = (1.0, 1.0)
    cast: float = 0.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    noise: float = 0.0
    blur: tuple[float, float] = (0.0, 0.0)


def shade(colour: Colour, factor: float) -> Colour:
    """A colour made darker (factor below 1) or lighter (above 1, up to 2, which is white).

    >>> shade((100, 200, 50), 0.5), shade((100, 200, 50), 2.0)
    ((50, 100, 25), (255, 255, 255))
    """
    if factor <= 1:
        return _rgb(*(channel * factor for channel in colour))
    return _rgb(*(channel + (255 - channel) * (factor - 1) for channel in colour))


def _rgb(red: float, green: float, blue: float) -> Colour:
    return (_level(red), _level(green), _level(blue))


def _level(value: float) -> int:
    return int(min(255, max(0, round(value))))


class Pen:
    """Draws shapes given in unit coordinates onto an image.

    Args:
        image: What to draw on, in any size.
        style: How to draw.
        rng: The photo's own random numbers: first its pose is drawn from them, then each painter's choices.

    Attributes:
        facing: 1, or −1 where the picture is mirrored; what must not be mirrored is multiplied by it.
    """

    def __init__(self, image: Image.Image, style: Style, rng: np.random.Generator) -> None:
        self.style = style
        self.rng = rng
        self._draw = ImageDraw.Draw(image)
        scale = rng.uniform(*style.scale)
        angle = math.radians(rng.uniform(-style.turn, style.turn))
        self.facing = -1.0 if rng.random() < 0.5 else 1.0
        self._pixels = scale * min(image.size) / 2
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        self._matrix = self._pixels * turn @ np.diag([self.facing, 1.0])
        self._centre = (1 + rng.uniform(-style.shift, style.shift, 2)) * np.array(image.size) / 2
        self._warp_phase = rng.uniform(0, 2 * math.pi, 4)
        self._warp_rate = rng.uniform(1.5, 3.5, 4)

    def pick(self, *colours: Colour) -> Colour:
        """One of the colours, slightly varied."""
        return self.vary(colours[int(self.rng.integers(len(colours)))])

    def vary(self, colour: Colour, amount: float = 10.0) -> Colour:
        """The colour with noise of standard deviation `amount` (grey levels), mostly shared by the channels."""
        common = self.rng.normal(0, amount)
        own = self.rng.normal(0, amount / 3, 3)
        return _rgb(colour[0] + common + own[0], colour[1] + common + own[1], colour[2] + common + own[2])

    def about(self, value: float, share: float = 0.08) -> float:
        """A number near `value`: up to `share` of it more or less."""
        return float(value * (1 + self.rng.uniform(-share, share)))

    def polygon(self, points: Sequence[Point], fill: Colour, *, outlined: bool = True) -> None:
        """A closed shape with straight sides."""
        self._fill(_dense(points) if len(points) <= _CORNERS else np.asarray(points, dtype=float), fill, outlined)

    def blob(self, points: Sequence[Point], fill: Colour, *, outlined: bool = True) -> None:
        """A closed, smooth shape through the points (Catmull-Rom)."""
        self._fill(_smooth(np.asarray(points, dtype=float), closed=True), fill, outlined)

    def oval(
        self, centre: Point, radii: Point, fill: Colour, *, tilt: float = 0.0, outlined: bool = True, flat: bool = False
    ) -> None:
        """An ellipse, tilted by `tilt` degrees and, unless `flat`, shaded on its lower side."""
        points = _ellipse(centre, radii, tilt)
        self._fill(points, shade(fill, 1 - 0.35 * self.style.shading) if self._shaded(flat) else fill, outlined)
        if self._shaded(flat):
            lit = (centre[0], centre[1] - 0.09 * radii[1])
            self._fill(_ellipse(lit, (radii[0] * 0.93, radii[1] * 0.88), tilt), fill, outlined=False)

    def fluff(
        self, centre: Point, radii: Point, fill: Colour, *, tufts: int = 26, depth: float = 0.12, curly: bool = False
    ) -> None:
        """A round part with a coat: pointed tufts, or curls where `curly`."""
        if curly:
            angles = np.linspace(0, 2 * math.pi, tufts, endpoint=False) + self.rng.uniform(0, 1)
            size = depth * max(radii)
            for angle in angles:
                x, y = centre[0] + radii[0] * math.cos(angle), centre[1] + radii[1] * math.sin(angle)
                self.oval((x, y), (size, size), fill)
            self.oval(centre, radii, fill, outlined=False)
            return
        angles = np.linspace(0, 2 * math.pi, 2 * tufts, endpoint=False)
        reach = np.where(np.arange(2 * tufts) % 2 == 0, 1.0 + depth, 1.0 - depth / 3)
        reach = reach + self.rng.normal(0, depth / 4, 2 * tufts)
        points = np.stack(
            [centre[0] + radii[0] * reach * np.cos(angles), centre[1] + radii[1] * reach * np.sin(angles)]
        )
        self._fill(points.T, fill, True)

    def line(self, points: Sequence[Point], colour: Colour, width: float, *, curved: bool = False) -> None:
        """A line with round ends, `width` in unit coordinates; `curved` bends it through the points."""
        path = np.asarray(points, dtype=float)
        self._stroke(_smooth(path, closed=False) if curved else _dense(path, closed=False), colour, width)

    def limb(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        """A bent, outlined limb: leg, tail, trunk or handle."""
        path = _smooth(np.asarray(points, dtype=float), closed=False)
        if self.style.outline > 0:
            self._stroke(path, self._ink(colour), width + 2 * self.style.outline)
        self._stroke(path, colour, width)

    def dot(self, centre: Point, radius: float, fill: Colour) -> None:
        """A small disc without outline or shade."""
        self._fill(_ellipse(centre, (radius, radius), 0.0, 12), fill, outlined=False)

    def eye(self, centre: Point, radius: float, *, white: bool = False) -> None:
        """A dark eye with a glint, on a white disc where `white`."""
        if white:
            self.oval(centre, (radius * 1.8, radius * 1.8), (250, 248, 240), flat=True)
        self.dot(centre, radius, (25, 20, 20))
        self.dot((centre[0] + radius * 0.35, centre[1] - radius * 0.35), radius * 0.35, (255, 255, 255))

    def scatter(self, centre: Point, radii: Point, count: int) -> list[Point]:
        """Random places inside an ellipse."""
        distance = np.sqrt(self.rng.uniform(0, 1, count))
        angle = self.rng.uniform(0, 2 * math.pi, count)
        x = centre[0] + radii[0] * distance * np.cos(angle)
        y = centre[1] + radii[1] * distance * np.sin(angle)
        return [(float(a), float(b)) for a, b in zip(x, y, strict=True)]

    def _shaded(self, flat: bool) -> bool:
        return not flat and self.style.shading > 0

    def _ink(self, fill: Colour) -> Colour:
        return shade(fill, self.style.ink)

    def _map(self, points: npt.NDArray[np.float64]) -> list[Point]:
        x, y = points[:, 0], points[:, 1]
        phase, rate, amplitude = self._warp_phase, self._warp_rate, self.style.warp
        bent_x = x + amplitude * (np.sin(rate[0] * y + phase[0]) + np.sin(rate[1] * x + phase[1]))
        bent_y = y + amplitude * (np.sin(rate[2] * x + phase[2]) + np.sin(rate[3] * y + phase[3]))
        pixels = np.stack([bent_x, bent_y], axis=1) @ self._matrix.T + self._centre
        return [(float(a), float(b)) for a, b in pixels]

    def _fill(self, points: npt.NDArray[np.float64], fill: Colour, outlined: bool) -> None:
        pixels = self._map(points)
        self._draw.polygon(pixels, fill=fill)
        width = round(self.style.outline * self._pixels)
        if outlined and width > 0:
            self._draw.line([*pixels, pixels[0], pixels[1]], fill=self._ink(fill), width=width)

    def _stroke(self, path: npt.NDArray[np.float64], colour: Colour, width: float) -> None:
        pixels = self._map(path)
        thick = max(1, round(width * self._pixels))
        self._draw.line(pixels, fill=colour, width=thick, joint="curve")
        radius = thick / 2
        for x, y in (pixels[0], pixels[-1]):
            self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _ellipse(centre: Point, radii: Point, tilt: float, count: int = _OVAL_POINTS) -> npt.NDArray[np.float64]:
    angle = np.linspace(0, 2 * math.pi, count, endpoint=False)
    x, y = radii[0] * np.cos(angle), radii[1] * np.sin(angle)
    turn = math.radians(tilt)
    return np.stack(
        [centre[0] + x * math.cos(turn) - y * math.sin(turn), centre[1] + x * math.sin(turn) + y * math.cos(turn)],
        axis=1,
    )


def _dense(points: Sequence[Point] | npt.NDArray[np.float64], *, closed: bool = True) -> npt.NDArray[np.float64]:
    """Points added along each side, so that the warp bends straight sides too."""
    corners = np.asarray(points, dtype=float)
    following = np.roll(corners, -1, axis=0) if closed else corners[1:]
    steps = np.linspace(0, 1, 4, endpoint=False)[None, :, None]
    starts = corners if closed else corners[:-1]
    path = (starts[:, None] * (1 - steps) + following[:, None] * steps).reshape(-1, 2)
    return path if closed else np.concatenate([path, corners[-1:]])


def _smooth(points: npt.NDArray[np.float64], *, closed: bool) -> npt.NDArray[np.float64]:
    """A Catmull-Rom curve: through every point, tangent there parallel to the line between its neighbours."""
    if closed:
        before, after = np.roll(points, 1, axis=0), np.roll(points, -1, axis=0)
        beyond = np.roll(points, -2, axis=0)
    else:
        padded = np.concatenate([points[:1], points, points[-1:]])
        before, points, after, beyond = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    t = np.linspace(0, 1, _CURVE_STEPS, endpoint=False)[None, :, None]
    p0, p1, p2, p3 = (part[:, None] for part in (before, points, after, beyond))
    curve = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    path = curve.reshape(-1, 2)
    return path if closed else np.concatenate([path, after[-1:]])
