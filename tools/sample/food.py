"""Painters of the Food-101 domain: each draws one dish with the pen, in unit coordinates."""

from __future__ import annotations

import math

from .canvas import Colour, Pen, shade

_CREAM: Colour = (250, 240, 214)
_GREEN: Colour = (104, 156, 70)
_ICINGS: tuple[Colour, ...] = ((238, 150, 176), (122, 74, 48), (250, 240, 214), (170, 206, 190), (196, 160, 216))


def _plate(pen: Pen, y: float = 0.0, flat: float = 1.0) -> None:
    glaze = pen.pick((240, 240, 240), (226, 232, 240), (240, 228, 210))
    pen.oval((0, y), (0.95, 0.95 * flat), glaze)
    pen.oval((0, y), (0.72, 0.72 * flat), shade(glaze, 0.93), flat=True)


def cheesecake(pen: Pen) -> None:
    """A slice of cheesecake with a topping."""
    _plate(pen, 0.45, 0.42)
    cake, crust = pen.pick((248, 230, 176), (244, 222, 160)), pen.pick((176, 120, 70), (150, 98, 60))
    topping = pen.pick((190, 44, 60), (92, 60, 120), (232, 190, 90))
    pen.polygon([(-0.72, 0.02), (0.62, 0.1), (0.62, 0.52), (-0.72, 0.36)], cake)
    pen.polygon([(-0.72, 0.3), (0.62, 0.44), (0.62, 0.56), (-0.72, 0.4)], crust)
    pen.polygon([(-0.72, 0.02), (0.36, -0.36), (0.62, 0.1)], shade(cake, 1.3))
    pen.blob([(-0.5, -0.02), (0.3, -0.3), (0.5, 0.06), (0.3, 0.14), (0.0, 0.04)], topping)
    pen.oval((0.26, -0.3), (0.12, 0.12), shade(topping, 0.9))


def cup_cakes(pen: Pen) -> None:
    """A cup cake with icing."""
    icing, paper = pen.pick(*_ICINGS), pen.pick((214, 120, 110), (120, 160, 196), (226, 196, 130), (150, 110, 80))
    pen.polygon([(-0.5, 0.16), (0.5, 0.16), (0.36, 0.86), (-0.36, 0.86)], paper)
    for x in (-0.3, -0.1, 0.1, 0.3):
        pen.line([(x * 1.1, 0.24), (x * 0.82, 0.82)], shade(paper, 0.75), 0.04)
    for y, radius in ((0.1, 0.6), (-0.2, 0.45), (-0.46, 0.28)):
        pen.oval((0, y), (radius, 0.23), icing)
    for x, y in pen.scatter((0, -0.05), (0.42, 0.24), 9):
        pen.dot((x, y), 0.032, pen.pick((220, 70, 70), (70, 130, 200), (250, 220, 90), (250, 250, 250)))
    pen.oval((0, -0.7), (0.13, 0.13), (200, 36, 50))


def donuts(pen: Pen) -> None:
    """A ring doughnut with icing."""
    dough, icing = pen.pick((206, 150, 88), (190, 132, 74)), pen.pick(*_ICINGS)
    flat = pen.rng.uniform(0.72, 1.0)
    pen.oval((0, 0), (0.84, 0.84 * flat), dough)
    pen.fluff((0, -0.04), (0.72, 0.72 * flat), icing, tufts=8, depth=0.08)
    for x, y in pen.scatter((0, -0.04), (0.64, 0.64 * flat), 30):
        if math.hypot(x, y / flat) > 0.34:
            turn = pen.rng.uniform(0, math.pi)
            dx, dy = 0.045 * math.cos(turn), 0.045 * math.sin(turn)
            pen.line(
                [(x - dx, y - dy), (x + dx, y + dy)], pen.pick((226, 70, 80), (80, 140, 210), (250, 220, 90)), 0.035
            )
    pen.oval((0, -0.02), (0.25, 0.25 * flat), shade(dough, 0.72), flat=True)


def french_fries(pen: Pen) -> None:
    """French fries in a paper cone."""
    fry, paper = pen.pick((240, 200, 96), (226, 178, 80)), pen.pick((200, 60, 54), (240, 236, 226), (70, 110, 170))
    for index in range(13):
        x = -0.42 + 0.07 * index
        top = pen.rng.uniform(-0.92, -0.4)
        pen.limb([(x * 0.8, 0.2), (x * 1.25, top)], shade(fry, pen.rng.uniform(0.85, 1.1)), 0.1)
    pen.polygon([(-0.56, -0.14), (-0.2, 0.0), (0.2, 0.0), (0.56, -0.14), (0.38, 0.86), (-0.38, 0.86)], paper)
    pen.line([(-0.26, 0.3), (-0.2, 0.8)], shade(paper, 0.8), 0.06)
    pen.line([(0.26, 0.3), (0.2, 0.8)], shade(paper, 0.8), 0.06)


def hamburger(pen: Pen) -> None:
    """A hamburger from the side."""
    bun = pen.pick((214, 150, 80), (196, 128, 66))
    pen.blob([(-0.72, 0.4), (0.72, 0.4), (0.62, 0.72), (0, 0.78), (-0.62, 0.72)], bun)
    pen.oval((0, 0.34), (0.78, 0.17), (112, 68, 46))
    pen.polygon(
        [(-0.72, 0.14), (0.72, 0.14), (0.5, 0.24), (0.3, 0.42), (0.08, 0.24), (-0.3, 0.24), (-0.5, 0.36)],
        (246, 196, 66),
    )
    pen.oval((0, 0.12), (0.74, 0.11), (206, 66, 54))
    wave = [(-0.84 + 0.14 * k, 0.06 if k % 2 else -0.06) for k in range(13)]
    pen.line(wave, _GREEN, 0.14, curved=True)
    pen.blob([(-0.76, -0.06), (-0.6, -0.52), (0, -0.72), (0.6, -0.52), (0.76, -0.06), (0, -0.02)], bun)
    for x, y in pen.scatter((0, -0.42), (0.46, 0.2), 12):
        pen.oval((x, y), (0.04, 0.025), _CREAM, tilt=pen.rng.uniform(0, 90), outlined=False, flat=True)


def hot_dog(pen: Pen) -> None:
    """A hot dog with mustard."""
    bun, meat = pen.pick((220, 162, 92), (204, 142, 76)), pen.pick((186, 82, 58), (166, 66, 50))
    pen.limb([(-0.62, -0.14), (0.62, -0.14)], shade(bun, 0.88), 0.4)
    pen.limb([(-0.78, 0.0), (0, 0.03), (0.78, 0.0)], meat, 0.27)
    pen.limb([(-0.62, 0.22), (0.62, 0.22)], bun, 0.34)
    sauce = pen.pick((248, 206, 60), (206, 40, 40))
    pen.line([(-0.66 + 0.12 * k, -0.06 if k % 2 else 0.04) for k in range(12)], sauce, 0.06, curved=True)


def ice_cream(pen: Pen) -> None:
    """Two or three scoops of ice cream in a cone."""
    cone = pen.pick((214, 160, 92), (198, 142, 78))
    pen.polygon([(-0.36, 0.08), (0.36, 0.08), (0, 0.96)], cone)
    for k in (0.25, 0.5, 0.75):
        pen.line([(-0.36 + 0.36 * k, 0.08 + 0.88 * k), (0.36 - 0.72 * (1 - k), 0.08)], shade(cone, 0.76), 0.03)
        pen.line([(0.36 - 0.36 * k, 0.08 + 0.88 * k), (-0.36 + 0.72 * (1 - k), 0.08)], shade(cone, 0.76), 0.03)
    scoops = [(-0.22, -0.08), (0.22, -0.08), (0.0, -0.44)] if pen.rng.random() < 0.6 else [(0.0, -0.06), (0.0, -0.5)]
    for x, y in scoops:
        pen.oval((x, y), (0.34, 0.31), pen.pick(*_ICINGS, (250, 214, 130)))
    if pen.rng.random() < 0.5:
        pen.oval((0.02, -0.84), (0.1, 0.1), (200, 36, 50))


def pancakes(pen: Pen) -> None:
    """A stack of pancakes with syrup."""
    _plate(pen, 0.52, 0.38)
    cake = pen.pick((222, 160, 88), (204, 140, 72))
    for y in (0.44, 0.26, 0.08, -0.1):
        nudge = pen.rng.uniform(-0.05, 0.05)
        pen.oval((nudge, y + 0.06), (0.66, 0.24), shade(cake, 1.35))
        pen.oval((nudge, y), (0.66, 0.23), cake, flat=True)
    syrup = pen.pick((146, 80, 36), (120, 62, 30))
    pen.blob([(-0.4, -0.14), (0, -0.28), (0.42, -0.14), (0.4, 0.24), (0.28, 0.0), (-0.12, 0.02), (-0.24, 0.2)], syrup)
    pen.polygon([(-0.14, -0.22), (0.08, -0.28), (0.18, -0.16), (-0.06, -0.1)], (252, 232, 140))


def pizza(pen: Pen) -> None:
    """A round pizza with salami and herbs."""
    crust, cheese = pen.pick((206, 148, 82), (186, 126, 66)), pen.pick((246, 206, 104), (240, 190, 88))
    pen.oval((0, 0), (0.9, 0.9), crust)
    pen.oval((0, 0), (0.76, 0.76), (206, 80, 50), flat=True, outlined=False)
    pen.oval((0, 0), (0.71, 0.71), cheese, flat=True, outlined=False)
    for k in range(7):
        angle, radius = 0.9 * k + pen.rng.uniform(-0.2, 0.2), 0.46 if k else 0.02
        spot = (radius * math.cos(angle), radius * math.sin(angle))
        pen.oval(spot, (0.14, 0.14), pen.pick((190, 56, 48), (170, 48, 44)))
    for x, y in pen.scatter((0, 0), (0.62, 0.62), 9):
        pen.oval((x, y), (0.07, 0.04), _GREEN, tilt=pen.rng.uniform(0, 180), outlined=False, flat=True)
    if pen.rng.random() < 0.7:
        for angle in (0.4, 1.45, 2.5):
            c, s = 0.88 * math.cos(angle), 0.88 * math.sin(angle)
            pen.line([(-c, -s), (c, s)], shade(crust, 0.72), 0.022)


def ramen(pen: Pen) -> None:
    """A bowl of noodle soup."""
    bowl, broth = pen.pick((60, 70, 96), (176, 54, 48), (230, 226, 216)), pen.pick((206, 150, 84), (186, 120, 62))
    pen.blob([(-0.9, -0.2), (0.9, -0.2), (0.7, 0.4), (0.3, 0.74), (-0.3, 0.74), (-0.7, 0.4)], bowl)
    pen.oval((0, -0.2), (0.9, 0.34), shade(bowl, 1.2), flat=True)
    pen.oval((0, -0.18), (0.78, 0.27), broth, flat=True)
    for k in range(6):
        y = -0.3 + 0.05 * k
        pen.line(
            [(-0.5, y), (-0.25, y + 0.06), (0, y), (0.25, y + 0.06), (0.5, y)], (248, 222, 140), 0.032, curved=True
        )
    for x in (-0.36, -0.1):
        pen.oval((x, -0.3), (0.17, 0.11), (250, 246, 236), flat=True)
        pen.oval((x, -0.3), (0.08, 0.06), (244, 170, 50), flat=True, outlined=False)
    pen.polygon([(0.3, -0.12), (0.36, -0.46), (0.62, -0.42), (0.6, -0.14)], (46, 66, 52))
    for offset in (0.0, 0.14):
        pen.line([(0.1 + offset, -0.2), (0.7 + offset, -0.92)], (130, 80, 50), 0.05)


def sushi(pen: Pen) -> None:
    """Three pieces of sushi on a board."""
    pen.polygon([(-0.95, 0.5), (0.95, 0.5), (0.86, 0.76), (-0.86, 0.76)], pen.pick((156, 106, 66), (112, 80, 58)))
    topping = pen.pick((240, 130, 90), (206, 60, 66), (250, 206, 110))
    for x in (-0.58, 0.02):
        pen.oval((x, 0.36), (0.28, 0.18), (248, 246, 240))
        pen.blob([(x - 0.32, 0.26), (x - 0.1, 0.06), (x + 0.24, 0.08), (x + 0.33, 0.3), (x, 0.24)], topping)
        for dx in (-0.1, 0.06):
            pen.line([(x + dx, 0.12), (x + dx + 0.06, 0.22)], shade(topping, 1.5), 0.03)
    pen.polygon([(0.42, 0.14), (0.88, 0.14), (0.88, 0.54), (0.42, 0.54)], (42, 54, 48))
    pen.oval((0.65, 0.14), (0.23, 0.12), (248, 246, 240), flat=True)
    pen.oval((0.65, 0.14), (0.1, 0.055), topping, flat=True, outlined=False)
    pen.limb([(-0.8, -0.2), (0.7, -0.42)], (130, 80, 50), 0.05)
    pen.limb([(-0.8, -0.34), (0.72, -0.54)], (130, 80, 50), 0.05)
