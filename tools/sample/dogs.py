"""Painter of the Thu-dog domain: one dog for all breeds, which differ in details only.

Every breed is the same side view, so that breeds differ in what distinguishes real ones: ears, coat
colour and pattern, coat length, tail, legs, muzzle.
"""

from __future__ import annotations

from dataclasses import dataclass

from .canvas import Colour, Pen, shade

_DARK: Colour = (38, 34, 36)
_WHITE: Colour = (244, 240, 232)


@dataclass(frozen=True)
class Breed:
    """What distinguishes one breed from another.

    Args:
        coat: Main colour.
        second: Colour of the pattern.
        pattern: `solid`, `saddle` (dark back), `points` (spots over legs, chest and muzzle), `mask` (dark face),
            `blaze` (white face stripe, chest and feet), `belly` (light underside) or `patches`.
        ears: `prick`, `bat` (large, upright), `drop` (long, hanging), `button` (small, folded) or `tuft` (hairy).
        tail: `curl`, `plume`, `whip` or `stub`.
        fur: `short`, `long` (tufts) or `curly`.
        legs: Length of the legs, 1 for a middling dog.
        muzzle: Length of the muzzle, 1 for a middling dog.
        body: Length of the trunk, 1 for a middling dog.
        girth: Depth of the trunk, 1 for a middling dog.
    """

    coat: Colour
    second: Colour = _WHITE
    pattern: str = "solid"
    ears: str = "drop"
    tail: str = "whip"
    fur: str = "short"
    legs: float = 1.0
    muzzle: float = 1.0
    body: float = 1.0
    girth: float = 1.0


BREEDS: dict[str, Breed] = {
    "basset": Breed((176, 112, 62), _WHITE, "belly", "drop", "whip", legs=0.4, body=1.2, girth=1.1),
    "beagle": Breed((176, 112, 62), (58, 46, 42), "saddle", "drop", "whip", legs=0.85),
    "Border_collie": Breed((46, 44, 48), _WHITE, "blaze", "button", "plume", "long"),
    "Chihuahua": Breed((210, 164, 108), _WHITE, "solid", "bat", "whip", legs=0.75, muzzle=0.6, body=0.78, girth=0.8),
    "Doberman": Breed((46, 40, 40), (176, 104, 54), "points", "prick", "stub", legs=1.35, muzzle=1.2, girth=0.9),
    "German_shepherd": Breed((182, 128, 74), (50, 44, 42), "saddle", "prick", "plume", muzzle=1.2),
    "golden_retriever": Breed((216, 168, 96), (236, 206, 150), "solid", "drop", "plume", "long"),
    "pug": Breed((210, 178, 134), (56, 48, 46), "mask", "button", "curl", legs=0.7, muzzle=0.25, body=0.82),
    "Rottweiler": Breed((46, 40, 40), (176, 104, 54), "points", "button", "stub", muzzle=0.85, girth=1.2),
    "Samoyed": Breed((244, 240, 230), _WHITE, "solid", "prick", "curl", "long", girth=1.1),
    "Shiba_Dog": Breed((206, 132, 70), (244, 230, 206), "belly", "prick", "curl", legs=0.9, muzzle=0.8),
    "Shih_Tzu": Breed((236, 226, 210), (160, 118, 80), "patches", "tuft", "curl", "long", legs=0.5, muzzle=0.3),
    "Siberian_husky": Breed((118, 124, 134), _WHITE, "blaze", "prick", "curl", legs=1.1),
    "standard_poodle": Breed((226, 216, 204), _WHITE, "solid", "tuft", "stub", "curly", legs=1.3, body=0.85),
}  # fmt: skip


def dog(pen: Pen, breed: Breed) -> None:
    """Draw a dog of a breed, its measures and colours varied as they are among dogs of one breed."""
    coat, second = pen.vary(breed.coat, 9), pen.vary(breed.second, 7)
    half = 0.44 * pen.about(breed.body)
    deep = 0.23 * pen.about(breed.girth)
    foot = 0.18 + 0.55 * pen.about(breed.legs)
    lift = 0.32 - foot / 2  # keeps tall and short dogs in the middle of the picture
    _tail(pen, breed, (-half - 0.08, lift - 0.06), coat)
    _legs(pen, breed, half, (lift + 0.1, lift + foot), coat, second)
    head = (half + 0.14, lift - 0.42 - pen.rng.uniform(-0.03, 0.05))
    pen.limb([(half - 0.16, lift), (half, lift - 0.2), (head[0] - 0.03, head[1])], coat, 0.28)
    _trunk(pen, breed, (-0.08, lift), (half, deep), coat, second)
    _head(pen, breed, head, coat, second)


def _legs(pen: Pen, breed: Breed, half: float, ends: tuple[float, float], coat: Colour, second: Colour) -> None:
    top, foot = ends
    paw = second if breed.pattern in {"points", "blaze", "belly"} else coat
    for index, x in enumerate((-half + 0.06, -half - 0.06, half - 0.2, half - 0.08)):
        tone, tip = (coat, paw) if index % 2 else (shade(coat, 0.72), shade(paw, 0.72))
        knee = x + pen.rng.uniform(-0.05, 0.05)
        end = knee + pen.rng.uniform(-0.04, 0.04)
        pen.limb([(x, top), (knee, (top + foot) / 2), (end, foot)], tone, 0.13)
        if breed.fur == "curly":
            pen.fluff((end, foot - 0.08), (0.09, 0.08), tip, tufts=9, depth=0.4, curly=True)
        pen.oval((end + 0.03, foot), (0.1, 0.055), tip)


def _trunk(
    pen: Pen, breed: Breed, centre: tuple[float, float], radii: tuple[float, float], coat: Colour, second: Colour
) -> None:
    x, y = centre
    half, deep = radii
    if breed.fur == "short":
        pen.oval(centre, (half + 0.08, deep), coat)
    else:
        pen.fluff(centre, (half + 0.1, deep * 1.12), coat, curly=breed.fur == "curly", tufts=22)
    if breed.pattern == "saddle":
        pen.oval((x - 0.04, y - 0.5 * deep), (half * 0.86, deep * 0.5), second, outlined=False)
    elif breed.pattern == "patches":
        for px in (-0.5, 0.2):
            pen.oval((x + px * half, y - 0.3 * deep), (0.16, deep * 0.55), second, outlined=False)
    elif breed.pattern in {"belly", "blaze"}:
        pen.oval((x + 0.05, y + 0.55 * deep), (half * 0.8, deep * 0.4), second, outlined=False)
        pen.oval((half - 0.06, y - 0.02), (0.12, deep * 0.7), second, outlined=False)
    elif breed.pattern == "points":
        pen.oval((half - 0.04, y + 0.02), (0.09, deep * 0.45), second, outlined=False)
    if breed.fur == "long":
        for px in (-0.6, -0.2, 0.2, 0.55):
            pen.line([(x + px * half, y - 0.1), (x + px * half - 0.05, y + 0.6 * deep)], shade(coat, 0.86), 0.025)


def _tail(pen: Pen, breed: Breed, root: tuple[float, float], coat: Colour) -> None:
    x, y = root
    wag = pen.rng.uniform(-0.06, 0.06)
    if breed.tail == "curl":
        bend = [(x + 0.05, y), (x - 0.14, y - 0.2), (x + wag, y - 0.38), (x + 0.14, y - 0.26), (x + 0.06, y - 0.16)]
        pen.limb(bend, coat, 0.15 if breed.fur == "long" else 0.1)
    elif breed.tail == "plume":
        pen.limb([(x + 0.08, y), (x - 0.16, y + 0.05), (x - 0.3, y - 0.08 + wag)], coat, 0.14)
        pen.fluff((x - 0.22, y + 0.06 + wag), (0.14, 0.1), coat, tufts=10, depth=0.3)
    elif breed.tail == "stub":
        pen.oval((x, y - 0.05), (0.09, 0.08), coat)
        if breed.fur == "curly":
            pen.limb([(x, y - 0.05), (x - 0.06, y - 0.22)], coat, 0.06)
            pen.fluff((x - 0.07, y - 0.3), (0.09, 0.09), coat, tufts=9, depth=0.4, curly=True)
    else:
        pen.limb([(x + 0.08, y), (x - 0.14, y - 0.12), (x - 0.24, y - 0.34 + wag)], coat, 0.065)


def _head(pen: Pen, breed: Breed, head: tuple[float, float], coat: Colour, second: Colour) -> None:
    x, y = head
    face = second if breed.pattern == "mask" else coat
    reach = 0.24 * pen.about(breed.muzzle)
    if breed.ears in {"prick", "bat"}:
        _upright_ear(pen, breed, (x - 0.12, y - 0.1), shade(coat, 0.72))
    if breed.fur == "curly":
        pen.fluff((x - 0.02, y - 0.12), (0.22, 0.18), coat, tufts=12, depth=0.4, curly=True)
    pen.oval((x, y), (0.23, 0.21), coat)
    tip = (x + 0.13 + reach, y + 0.07)
    snout = second if breed.pattern in {"points", "mask", "blaze", "belly"} else shade(coat, 1.12)
    pen.oval(((x + 0.08 + tip[0]) / 2, tip[1]), ((tip[0] - x - 0.02) / 2, 0.1), snout)
    if breed.pattern == "blaze":
        pen.line([(x + 0.06, y - 0.2), (x + 0.16, y)], second, 0.09)
    elif breed.pattern == "mask":
        pen.oval((x + 0.1, y - 0.02), (0.11, 0.1), face, outlined=False)
    elif breed.pattern == "points":
        pen.dot((x + 0.09, y - 0.12), 0.035, second)
    elif breed.pattern == "patches":
        pen.oval((x - 0.02, y - 0.06), (0.14, 0.12), second, outlined=False)
    pen.oval((tip[0] + 0.01, tip[1] - 0.04), (0.055, 0.045), _DARK, flat=True)
    pen.eye((x + 0.09, y - 0.06), 0.036)
    if breed.ears in {"prick", "bat"}:
        _upright_ear(pen, breed, (x - 0.02, y - 0.1), coat)
    elif breed.ears == "drop":
        length = pen.about(0.26 if breed.legs > 0.5 else 0.36)
        pen.oval((x - 0.14, y + 0.08 + length / 4), (0.1, length), shade(coat, 0.78), tilt=8)
    elif breed.ears == "button":
        pen.polygon([(x - 0.2, y - 0.16), (x + 0.03, y - 0.19), (x - 0.06, y + 0.03)], shade(coat, 0.7))
    else:
        colour = shade(second if breed.pattern == "patches" else coat, 0.9)
        pen.fluff((x - 0.13, y + 0.08), (0.11, 0.22), colour, tufts=9, depth=0.3, curly=breed.fur == "curly")


def _upright_ear(pen: Pen, breed: Breed, base: tuple[float, float], colour: Colour) -> None:
    x, y = base
    wide, tall = (0.12, 0.42) if breed.ears == "bat" else (0.09, 0.28)
    top = (x - 0.05 - (0.1 if breed.ears == "bat" else 0.0), y - pen.about(tall))
    pen.polygon([(x - wide, y), top, (x + wide, y - 0.05)], colour)
    pen.polygon(
        [(x - wide / 3, y - 0.05), (top[0], top[1] + 0.1), (x + wide / 2, y - 0.07)], shade(colour, 1.3), outlined=False
    )
