"""Painters of the Animal domain: each draws one animal with the pen, in unit coordinates."""

from __future__ import annotations

from .canvas import Colour, Pen, Point, shade

_DARK: Colour = (40, 36, 38)
_WHITE: Colour = (246, 244, 238)


def _legs(pen: Pen, xs: tuple[float, ...], top: float, foot: float, width: float, colour: Colour) -> None:
    """Legs of a walking animal: the far pair darker, each slightly out of line."""
    for index, x in enumerate(xs):
        stride = pen.rng.uniform(-0.07, 0.07)
        tone = colour if index % 2 else shade(colour, 0.72)
        pen.limb([(x, top), (x + stride / 2, (top + foot) / 2), (x + stride, foot)], tone, width)


def _bear_shape(pen: Pen, coat: Colour, muzzle: Colour) -> None:
    foot = pen.about(0.72)
    _legs(pen, (-0.5, -0.4, 0.2, 0.32), 0.2, foot, 0.22, coat)
    pen.oval((-0.75, 0.02), (0.09, 0.08), coat)
    pen.blob([(-0.75, 0.05), (-0.5, -0.3), (0.0, -0.36), (0.4, -0.34), (0.5, 0.1), (0.2, 0.38), (-0.5, 0.4)], coat)
    for x in (0.42, 0.72):
        pen.oval((x, -0.52), (0.09, 0.09), shade(coat, 0.85))
    pen.oval((0.57, -0.28), (0.28, 0.27), coat)
    pen.oval((0.72, -0.2), (0.15, 0.12), muzzle)
    pen.oval((0.81, -0.24), (0.055, 0.045), _DARK, flat=True)
    pen.eye((0.55, -0.36), 0.035)


def bear(pen: Pen) -> None:
    """A brown bear, walking."""
    coat = pen.pick((122, 82, 52), (96, 64, 44), (146, 98, 60))
    _bear_shape(pen, coat, shade(coat, 1.35))


def polar_bear(pen: Pen) -> None:
    """A polar bear: the bear's shape in white."""
    coat = pen.pick((240, 236, 222), (232, 232, 230))
    _bear_shape(pen, coat, shade(coat, 0.95))


def panda(pen: Pen) -> None:
    """A panda, sitting."""
    white, black = pen.vary(_WHITE, 4), pen.vary(_DARK, 6)
    for side in (-1, 1):
        pen.oval((side * 0.36, 0.72), (0.2, 0.17), black)
    pen.oval((0, 0.35), (0.48, 0.45), white)
    for side in (-1, 1):
        pen.limb([(side * 0.38, 0.12), (side * 0.5, 0.35), (side * 0.25, 0.48)], black, 0.2)
        pen.oval((side * 0.33, -0.72), (0.15, 0.15), black)
    pen.oval((0, -0.36), (0.47, 0.42), white)
    for side in (-1, 1):
        pen.oval((side * 0.19, -0.36), (0.11, 0.14), black, tilt=side * 30, flat=True)
        pen.eye((side * 0.18, -0.38), 0.04)
    pen.oval((0, -0.2), (0.07, 0.05), black, flat=True)
    pen.line([(-0.09, -0.1), (0, -0.06), (0.09, -0.1)], black, 0.025, curved=True)


def cat(pen: Pen) -> None:
    """A sitting cat, often a tabby."""
    coat = pen.pick((214, 140, 70), (150, 146, 146), (72, 66, 68), (226, 206, 176))
    belly, stripe = shade(coat, 1.5), shade(coat, 0.68)
    pen.limb([(0.3, 0.75), (0.68, 0.6), (0.6, 0.2), (0.76, 0.0)], coat, 0.13)
    pen.blob([(-0.32, 0.82), (-0.4, 0.4), (-0.2, -0.05), (0.2, -0.05), (0.4, 0.4), (0.32, 0.82)], coat)
    pen.oval((0, 0.42), (0.17, 0.3), belly, outlined=False)
    for side in (-1, 1):
        pen.oval((side * 0.16, 0.8), (0.14, 0.09), belly)
        pen.polygon([(side * 0.4, -0.38), (side * 0.38, -0.9), (side * 0.06, -0.62)], coat)
        pen.polygon([(side * 0.34, -0.5), (side * 0.34, -0.78), (side * 0.16, -0.62)], (226, 160, 156), outlined=False)
    pen.oval((0, -0.36), (0.43, 0.36), coat)
    if pen.rng.random() < 0.6:
        for x in (-0.12, 0.0, 0.12):
            pen.line([(x, -0.68), (x * 0.8, -0.52)], stripe, 0.045)
        for y in (0.25, 0.42, 0.58):
            for side in (-1, 1):
                pen.line([(side * 0.36, y), (side * 0.2, y + 0.04)], stripe, 0.05)
    for side in (-1, 1):
        pen.oval((side * 0.17, -0.4), (0.09, 0.08), (170, 196, 90), flat=True)
        pen.oval((side * 0.17, -0.4), (0.03, 0.075), _DARK, flat=True, outlined=False)
        for dy in (-0.03, 0.05):
            pen.line([(side * 0.14, -0.22 + dy / 2), (side * 0.52, -0.24 + 2 * dy)], (240, 240, 236), 0.014)
    pen.polygon([(-0.05, -0.27), (0.05, -0.27), (0, -0.2)], (214, 120, 120))


def elephant(pen: Pen) -> None:
    """A grey elephant with its trunk down."""
    hide = pen.pick((140, 142, 150), (120, 118, 122), (156, 148, 142))
    pen.line([(-0.75, -0.05), (-0.84, 0.25), (-0.8, 0.4)], shade(hide, 0.7), 0.05, curved=True)
    _legs(pen, (-0.55, -0.4, 0.1, 0.24), 0.2, 0.76, 0.23, hide)
    pen.oval((-0.18, -0.02), (0.62, 0.45), hide)
    trunk: list[Point] = [(0.7, -0.2), (0.88, 0.15), (0.82, 0.5), (pen.rng.uniform(0.86, 1.02), 0.62)]
    pen.limb(trunk, hide, 0.16)
    pen.oval((0.55, -0.3), (0.31, 0.32), hide)
    pen.limb([(0.66, -0.05), (0.74, 0.12), (0.92, 0.12)], _WHITE, 0.055)
    pen.oval((0.3, -0.26), (0.25, 0.34), shade(hide, 0.88), tilt=-12)
    pen.eye((0.66, -0.36), 0.035)


def giraffe(pen: Pen) -> None:
    """A giraffe: long neck, brown patches."""
    coat, patch = pen.pick((232, 194, 116), (220, 178, 104)), pen.pick((150, 92, 48), (124, 74, 40))
    pen.line([(-0.55, 0.1), (-0.64, 0.4)], shade(coat, 0.7), 0.04)
    _legs(pen, (-0.46, -0.36, 0.08, 0.18), 0.3, 0.92, 0.09, coat)
    pen.limb([(0.1, 0.15), (0.3, -0.3), (0.42, -0.68)], coat, 0.18)
    pen.oval((-0.14, 0.2), (0.42, 0.24), coat)
    for x, y in [*pen.scatter((-0.14, 0.2), (0.34, 0.17), 9), (0.18, -0.02), (0.28, -0.22), (0.34, -0.42), (0.22, 0.1)]:
        pen.oval((x, y), (0.065, 0.055), patch, tilt=pen.rng.uniform(0, 90), outlined=False, flat=True)
    for x in (0.36, 0.46):
        pen.line([(x, -0.8), (x - 0.02, -0.96)], shade(coat, 0.7), 0.04)
        pen.dot((x - 0.02, -0.96), 0.035, _DARK)
    pen.oval((0.3, -0.78), (0.09, 0.04), coat, tilt=20)
    pen.oval((0.5, -0.72), (0.2, 0.12), coat, tilt=18)
    pen.dot((0.66, -0.68), 0.02, _DARK)
    pen.eye((0.46, -0.76), 0.032)


def zebra(pen: Pen) -> None:
    """A zebra: a white horse with dark stripes."""
    coat, stripe = pen.vary(_WHITE, 5), pen.vary(_DARK, 6)
    pen.line([(-0.6, -0.1), (-0.72, 0.3)], stripe, 0.06)
    _legs(pen, (-0.46, -0.34, 0.16, 0.28), 0.2, 0.84, 0.12, coat)
    pen.limb([(0.25, 0.0), (0.44, -0.3), (0.52, -0.5)], coat, 0.26)
    pen.line([(0.12, -0.28), (0.3, -0.56), (0.44, -0.76)], stripe, 0.09, curved=True)
    pen.oval((-0.1, 0.06), (0.52, 0.28), coat)
    for x in (-0.5, -0.36, -0.22, -0.08, 0.06, 0.2, 0.32):
        lean = pen.rng.uniform(-0.04, 0.04)
        reach = 0.22 if abs(x + 0.1) > 0.3 else 0.27
        pen.line([(x + lean, 0.06 - reach), (x, 0.06), (x - lean, 0.04 + reach)], stripe, 0.055)
    for x, y in ((0.3, -0.1), (0.38, -0.26), (0.46, -0.42)):
        pen.line([(x - 0.1, y - 0.06), (x + 0.1, y + 0.05)], stripe, 0.05)
    pen.polygon([(0.46, -0.64), (0.46, -0.86), (0.58, -0.7)], coat)
    pen.oval((0.66, -0.5), (0.25, 0.14), coat, tilt=32)
    pen.oval((0.82, -0.39), (0.1, 0.09), stripe, tilt=32, flat=True)
    pen.eye((0.62, -0.58), 0.032)
    for x, y in ((-0.4, 0.5), (0.22, 0.5), (-0.4, 0.62), (0.22, 0.62)):
        pen.line([(x - 0.05, y), (x + 0.06, y)], stripe, 0.04)


def penguin(pen: Pen) -> None:
    """A penguin, upright."""
    black = pen.pick((44, 46, 58), (58, 60, 76))
    for side in (-1, 1):
        pen.oval((side * 0.2, 0.84), (0.18, 0.08), (236, 160, 60))
        pen.oval((side * 0.46, 0.14), (0.11, 0.38), shade(black, 0.85), tilt=side * -14)
    pen.oval((0, 0.16), (0.46, 0.68), black)
    pen.oval((0, 0.28), (0.33, 0.53), _WHITE, outlined=False)
    pen.oval((0, -0.5), (0.33, 0.31), black)
    for side in (-1, 1):
        pen.oval((side * 0.13, -0.46), (0.14, 0.16), _WHITE, flat=True, outlined=False)
        pen.eye((side * 0.12, -0.5), 0.04)
    pen.polygon([(-0.09, -0.4), (0.09, -0.4), (0.0, -0.24)], (240, 160, 50))


def owl(pen: Pen) -> None:
    """An owl on a branch."""
    coat = pen.pick((146, 108, 72), (120, 100, 86), (176, 140, 98))
    pen.limb([(-0.9, 0.74), (0, 0.78), (0.9, 0.7)], (104, 78, 56), 0.13)
    pen.blob([(0, 0.85), (-0.42, 0.5), (-0.46, -0.2), (0, -0.6), (0.46, -0.2), (0.42, 0.5)], coat)
    pen.oval((0, 0.3), (0.28, 0.4), shade(coat, 1.45), outlined=False)
    for row, y in enumerate((0.1, 0.26, 0.42, 0.56)):
        for x in (-0.14, 0.0, 0.14) if row % 2 else (-0.08, 0.08):
            pen.line([(x - 0.04, y), (x, y + 0.05), (x + 0.04, y)], shade(coat, 0.75), 0.03)
    for side in (-1, 1):
        pen.oval((side * 0.43, 0.22), (0.12, 0.4), shade(coat, 0.78), tilt=side * -8)
        pen.polygon([(side * 0.42, -0.45), (side * 0.4, -0.9), (side * 0.08, -0.62)], coat)
    pen.oval((0, -0.4), (0.46, 0.34), coat)
    for side in (-1, 1):
        pen.oval((side * 0.2, -0.4), (0.2, 0.2), (248, 236, 196), flat=True)
        pen.oval((side * 0.2, -0.4), (0.13, 0.13), (236, 176, 50), flat=True)
        pen.eye((side * 0.2, -0.4), 0.075)
        pen.line([(side * 0.14, 0.8), (side * 0.2, 0.8)], (226, 170, 70), 0.09)
    pen.polygon([(-0.06, -0.32), (0.06, -0.32), (0, -0.16)], (226, 150, 60))


def fish(pen: Pen) -> None:
    """A fish, often with bands."""
    body = pen.pick((236, 128, 50), (90, 140, 196), (230, 196, 70), (206, 84, 84))
    fin = shade(body, 0.8)
    tail = pen.about(0.34)
    pen.blob([(-0.45, 0.0), (-0.85, -tail), (-0.74, 0.0), (-0.85, tail)], fin)
    pen.blob([(-0.25, -0.3), (0.05, -0.66), (0.3, -0.3)], fin)
    pen.blob([(-0.1, 0.3), (0.0, 0.56), (0.2, 0.3)], fin)
    pen.oval((0.1, 0), (0.64, 0.4), body)
    if pen.rng.random() < 0.6:
        for x in (-0.2, 0.16):
            pen.line([(x, -0.33), (x + 0.06, 0), (x, 0.33)], _WHITE, 0.1, curved=True)
    pen.blob([(0.1, 0.0), (-0.12, 0.14), (0.06, 0.2)], fin)
    pen.eye((0.46, -0.08), 0.06, white=True)
    pen.line([(0.7, 0.1), (0.6, 0.14), (0.52, 0.12)], shade(body, 0.5), 0.025, curved=True)


def butterfly(pen: Pen) -> None:
    """A butterfly with open wings."""
    wing = pen.pick((236, 140, 46), (86, 130, 210), (230, 206, 80), (196, 100, 170))
    edge, spot = shade(wing, 0.45), shade(wing, 1.6)
    spread = pen.about(0.9, 0.12)
    for side in (-1, 1):
        upper = [(0, -0.15), (side * 0.35 * spread, -0.75), (side * spread, -0.78), (side * 0.8 * spread, -0.1)]
        lower = [(0, 0.05), (side * 0.7 * spread, 0.05), (side * 0.66 * spread, 0.62), (side * 0.25, 0.66)]
        for shape in (lower, upper):
            pen.blob(shape, edge)
            centre = (sum(x for x, _ in shape) / 4, sum(y for _, y in shape) / 4)
            pen.blob([(centre[0] + 0.76 * (x - centre[0]), centre[1] + 0.76 * (y - centre[1])) for x, y in shape], wing)
        pen.dot((side * 0.6 * spread, -0.46), 0.1, spot)
        pen.dot((side * 0.42 * spread, 0.36), 0.09, spot)
        pen.line([(0, -0.4), (side * 0.12, -0.66), (side * 0.24, -0.76)], _DARK, 0.025, curved=True)
    pen.oval((0, 0), (0.07, 0.46), _DARK)


def rabbit(pen: Pen) -> None:
    """A rabbit with upright ears."""
    coat = pen.pick((190, 170, 150), (240, 236, 230), (146, 120, 98), (130, 130, 136))
    pen.oval((-0.42, 0.62), (0.15, 0.14), _WHITE)
    pen.oval((-0.02, 0.45), (0.44, 0.42), coat)
    for side in (-1, 1):
        lean = side * pen.rng.uniform(4, 18)
        pen.oval((side * 0.16, -0.62), (0.11, 0.36), coat, tilt=lean)
        pen.oval((side * 0.16, -0.6), (0.05, 0.26), (232, 176, 172), tilt=lean, outlined=False, flat=True)
        pen.oval((side * 0.2, 0.82), (0.19, 0.1), shade(coat, 1.25))
    pen.oval((0, -0.12), (0.34, 0.31), coat)
    for side in (-1, 1):
        pen.eye((side * 0.15, -0.18), 0.05)
        pen.line([(side * 0.08, -0.02), (side * 0.36, -0.04)], _WHITE, 0.014)
    pen.polygon([(-0.05, -0.07), (0.05, -0.07), (0, 0)], (220, 130, 134))
    pen.polygon([(-0.05, 0.05), (0.05, 0.05), (0.04, 0.14), (-0.04, 0.14)], _WHITE)
