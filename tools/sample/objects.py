"""Painters of the Caltech-101 domain: each draws one object with the pen, in unit coordinates."""

from __future__ import annotations

import itertools
import math

from .canvas import Colour, Pen, shade

_DARK: Colour = (48, 46, 50)
_WHITE: Colour = (246, 244, 238)
_PAINTS: tuple[Colour, ...] = (
    (200, 66, 58),
    (66, 110, 180),
    (92, 156, 96),
    (232, 180, 62),
    (140, 92, 160),
    (230, 226, 216),
)
_WOODS: tuple[Colour, ...] = ((156, 106, 66), (190, 140, 92), (112, 76, 52))


def anchor(pen: Pen) -> None:
    """A ship's anchor."""
    iron = pen.pick((88, 96, 108), (60, 62, 70), (120, 104, 92))
    pen.limb([(0, -0.55), (0, 0.1), (0, 0.78)], iron, 0.15)
    pen.limb([(-0.38, -0.36), (0, -0.36), (0.38, -0.36)], iron, 0.12)
    pen.limb([(-0.66, 0.2), (-0.5, 0.62), (0, 0.8), (0.5, 0.62), (0.66, 0.2)], iron, 0.14)
    for side in (-1, 1):
        pen.polygon([(side * 0.48, 0.3), (side * 0.7, 0.0), (side * 0.86, 0.34)], iron)
    pen.oval((0, -0.7), (0.19, 0.19), iron, flat=True)
    pen.oval((0, -0.7), (0.09, 0.09), (226, 222, 212), flat=True)


def car_side(pen: Pen) -> None:
    """A car from the side."""
    paint = pen.pick(*_PAINTS)
    roof = pen.about(0.5)
    pen.blob([(-0.6, -0.05), (-0.42, -roof), (0.2, -roof), (0.5, -0.05)], paint)
    glass = (176, 206, 222)
    pen.polygon([(-0.44, -0.08), (-0.34, -roof + 0.12), (-0.08, -roof + 0.1), (-0.08, -0.08)], glass)
    pen.polygon([(0.02, -0.08), (0.02, -roof + 0.1), (0.18, -roof + 0.12), (0.36, -0.08)], glass)
    pen.blob([(-0.92, 0.3), (-0.9, 0.0), (-0.6, -0.12), (0.5, -0.12), (0.88, 0.02), (0.92, 0.3), (0, 0.34)], paint)
    pen.line([(-0.02, -0.06), (-0.02, 0.24)], shade(paint, 0.6), 0.025)
    pen.oval((0.86, 0.08), (0.06, 0.06), (250, 230, 150), flat=True)
    for x in (-0.52, 0.52):
        pen.oval((x, 0.32), (0.22, 0.22), _DARK, flat=True)
        pen.oval((x, 0.32), (0.11, 0.11), (190, 190, 194), flat=True)


def chair(pen: Pen) -> None:
    """A wooden chair."""
    wood = pen.pick(*_WOODS)
    seat = pen.pick(*_PAINTS) if pen.rng.random() < 0.4 else shade(wood, 1.15)
    for x, foot in ((-0.3, 0.74), (0.52, 0.74)):
        pen.limb([(x, 0.1), (x, foot)], shade(wood, 0.72), 0.1)
    for x in (-0.44, 0.3):
        pen.limb([(x, 0.1), (x, 0.9)], wood, 0.11)
    for x in (-0.44, 0.28):
        pen.limb([(x, 0.1), (x - 0.06, -0.88)], wood, 0.11)
    for y in (-0.72, -0.46, -0.2):
        pen.limb([(-0.46, y), (0.24, y)], wood, 0.1)
    pen.polygon([(-0.54, 0.2), (-0.32, 0.0), (0.6, 0.0), (0.42, 0.2)], seat)


def cup(pen: Pen) -> None:
    """A cup with a handle, sometimes steaming."""
    glaze = pen.pick(*_PAINTS)
    pen.oval((0, 0.72), (0.72, 0.14), shade(glaze, 1.3))
    pen.limb([(0.42, -0.12), (0.78, -0.1), (0.74, 0.3), (0.36, 0.38)], glaze, 0.11)
    pen.blob([(-0.52, -0.32), (0.52, -0.32), (0.48, 0.3), (0.26, 0.7), (-0.26, 0.7), (-0.48, 0.3)], glaze)
    pen.oval((0, -0.3), (0.5, 0.14), shade(glaze, 1.35), flat=True)
    pen.oval((0, -0.28), (0.42, 0.1), (104, 68, 44), flat=True, outlined=False)
    if pen.rng.random() < 0.5:
        pen.line([(-0.4, 0.12), (0, 0.2), (0.4, 0.12)], shade(glaze, 0.62), 0.07, curved=True)
    for x in (-0.16, 0.12):
        pen.line([(x, -0.5), (x + 0.08, -0.64), (x - 0.04, -0.78), (x + 0.05, -0.92)], _WHITE, 0.05, curved=True)


def ketch(pen: Pen) -> None:
    """A sailing boat with two masts."""
    hull, sail = pen.pick(*_PAINTS), pen.pick(_WHITE, (240, 226, 190), (222, 120, 90))
    for x, top in ((-0.02, -0.92), (-0.56, -0.48)):
        pen.limb([(x, 0.4), (x, top)], (120, 88, 60), 0.05)
    pen.polygon([(0.04, -0.86), (0.04, 0.3), (0.78, 0.3)], sail)
    pen.polygon([(-0.06, -0.78), (-0.06, 0.26), (-0.44, 0.26)], shade(sail, 0.94))
    pen.polygon([(-0.6, -0.42), (-0.6, 0.26), (-0.94, 0.26)], shade(sail, 0.9))
    pen.blob([(-0.96, 0.38), (0, 0.44), (0.96, 0.34), (0.66, 0.74), (-0.62, 0.74)], hull)
    for y in (0.78, 0.9):
        pen.line(
            [(-0.9, y), (-0.5, y - 0.05), (-0.1, y), (0.3, y - 0.05), (0.8, y)], (110, 160, 200), 0.055, curved=True
        )


def lamp(pen: Pen) -> None:
    """A table lamp."""
    cloth, stand = pen.pick((240, 216, 150), (224, 150, 120), (180, 206, 190)), pen.pick(*_WOODS, (96, 100, 110))
    pen.oval((0, 0.82), (0.4, 0.11), stand)
    pen.limb([(0, 0.8), (0, -0.1)], stand, 0.1)
    pen.oval((0, 0.42), (0.17, 0.24), stand)
    pen.polygon([(-0.34, -0.84), (0.34, -0.84), (0.64, -0.06), (-0.64, -0.06)], cloth)
    pen.line([(-0.6, -0.14), (0.6, -0.14)], shade(cloth, 0.75), 0.05)
    pen.line([(0.36, -0.02), (0.36, 0.2)], shade(stand, 0.8), 0.025)
    pen.dot((0.36, 0.22), 0.04, shade(stand, 0.8))


def pyramid(pen: Pen) -> None:
    """A stone pyramid, lit from one side."""
    stone = pen.pick((224, 190, 130), (206, 166, 110), (214, 200, 170))
    edge = pen.rng.uniform(0.1, 0.4)
    pen.polygon([(-0.95, 0.6), (0, -0.72), (edge, 0.7)], stone)
    pen.polygon([(0, -0.72), (edge, 0.7), (0.95, 0.5)], shade(stone, 0.66))
    for share in (0.3, 0.5, 0.7, 0.88):
        left, middle = (-0.95 * share, -0.72 + 1.32 * share), (edge * share, -0.72 + 1.42 * share)
        pen.line([left, middle], shade(stone, 0.82), 0.022)
        pen.line([middle, (0.95 * share, -0.72 + 1.22 * share)], shade(stone, 0.52), 0.022)


def soccer_ball(pen: Pen) -> None:
    """A football of black and white patches."""
    pen.oval((0, 0), (0.8, 0.8), pen.vary(_WHITE, 4))
    start = pen.rng.uniform(0, 2 * math.pi)
    inner = [(0.27 * math.cos(start + k * 1.2566), 0.27 * math.sin(start + k * 1.2566)) for k in range(5)]
    for k in range(5):
        angle = start + k * 1.2566
        c, s = math.cos(angle), math.sin(angle)
        pen.line([inner[k], (0.52 * c, 0.52 * s)], _DARK, 0.035)
        rim = [(0.52, 0.0), (0.66, 0.26), (0.755, 0.2), (0.79, 0.0), (0.755, -0.2), (0.66, -0.26)]
        pen.polygon([(r * c - t * s, r * s + t * c) for r, t in rim], _DARK)
    pen.polygon(inner, _DARK)


def stop_sign(pen: Pen) -> None:
    """A red octagonal sign on a post."""
    red = pen.pick((200, 48, 46), (184, 40, 44))
    pen.limb([(0, 0.2), (0, 0.95)], (150, 150, 152), 0.1)
    corners = [(math.cos(math.pi / 8 + k * math.pi / 4), math.sin(math.pi / 8 + k * math.pi / 4)) for k in range(8)]
    for size, colour in ((0.66, _WHITE), (0.59, red)):
        pen.polygon([(size * x, size * y - 0.26) for x, y in corners], colour)
    strokes = {
        "S": [(0.1, -0.12), (-0.02, -0.16), (-0.1, -0.08), (0.08, 0.06), (0.02, 0.15), (-0.1, 0.12)],
        "O": [(-0.08, -0.1), (0.08, -0.1), (0.08, 0.1), (-0.08, 0.1), (-0.08, -0.1)],
        "P": [(-0.07, 0.15), (-0.07, -0.14), (0.08, -0.1), (0.08, 0.0), (-0.07, 0.02)],
    }
    for x, letter in ((-0.39, "S"), (0.13, "O"), (0.39, "P")):
        pen.line([(pen.facing * (x + a), b - 0.26) for a, b in strokes[letter]], _WHITE, 0.055)
    pen.line([(-0.25 * pen.facing, -0.4), (0.0, -0.4)], _WHITE, 0.055)
    pen.line([(-0.125 * pen.facing, -0.4), (-0.125 * pen.facing, -0.11)], _WHITE, 0.055)


def sunflower(pen: Pen) -> None:
    """A sunflower on its stem."""
    petal, seed = pen.pick((246, 196, 46), (238, 170, 40)), pen.pick((94, 60, 38), (120, 78, 44))
    green = pen.pick((86, 136, 66), (110, 150, 80))
    pen.limb([(0, 0.2), (0.04, 0.6), (0, 0.96)], green, 0.09)
    for side in (-1, 1):
        pen.oval((side * 0.26, 0.7), (0.24, 0.1), green, tilt=side * -28)
    count = int(pen.rng.integers(13, 18))
    for k in range(count):
        angle = 2 * math.pi * k / count
        spot = (0.5 * math.cos(angle), -0.22 + 0.5 * math.sin(angle))
        pen.oval(spot, (0.21, 0.09), petal, tilt=math.degrees(angle))
    pen.oval((0, -0.22), (0.34, 0.34), seed)
    for x, y in pen.scatter((0, -0.22), (0.28, 0.28), 26):
        pen.dot((x, y), 0.022, shade(seed, 1.35))


def umbrella(pen: Pen) -> None:
    """An open umbrella."""
    cloth = pen.pick(*_PAINTS[:5])
    other = shade(cloth, 1.5) if pen.rng.random() < 0.5 else cloth
    pen.limb([(0, -0.4), (0, 0.3), (0, 0.66), (0.12, 0.86), (0.28, 0.72)], (110, 82, 60), 0.055)
    ribs = (-0.9, -0.36, 0.36, 0.9)
    pen.line([(0, -0.85), (0, -0.95)], _DARK, 0.05)
    for index, (left, right) in enumerate(itertools.pairwise(ribs)):
        dip = (left + right) / 2
        top = [(left * 0.75, -0.42), (left * 0.3, -0.8), (0.0, -0.86), (right * 0.3, -0.8), (right * 0.75, -0.42)]
        pen.polygon(
            [(left, 0.04), *top, (right, 0.04), (dip + 0.1, -0.05), (dip - 0.1, -0.05)], other if index % 2 else cloth
        )
