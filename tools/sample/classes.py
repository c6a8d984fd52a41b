"""The sample's classes as data: name, domain, painter and what a caption may say of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from . import animals, dogs, food, objects
from .canvas import Pen

KINDS: dict[str, str] = {
    "Animal": "a kind of an animal",
    "Caltech-101": "a kind of an object",
    "Food-101": "a type of food",
    "Thu-dog": "a category of a dog",
}


@dataclass(frozen=True)
class PictureClass:
    """One class of the sample.

    Args:
        domain: The contest's domain, such as `Thu-dog`.
        folder: The class's folder, which is also its name without the domain.
        paint: Draws one of its kind with a pen.
        words: Descriptions that captions may use instead of the name.
    """

    domain: str
    folder: str
    paint: Callable[[Pen], None]
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """The contest's class name, `<Domain>_<folder>`."""
        return f"{self.domain}_{self.folder}"

    @property
    def spoken(self) -> str:
        """The name as captions say it: without the domain, underscores as spaces."""
        return self.folder.replace("_", " ")


_ANIMALS: tuple[tuple[str, Callable[[Pen], None], tuple[str, ...]], ...] = (
    ("Bear", animals.bear, ("a large brown animal", "a heavy animal with round ears")),
    ("Butterfly", animals.butterfly, ("an insect with coloured wings", "a small animal with four wings")),
    ("Cat", animals.cat, ("a sitting pet with whiskers", "a pet with pointed ears")),
    ("Elephant", animals.elephant, ("a large grey animal with a trunk", "a heavy animal with large ears")),
    ("Fish", animals.fish, ("an animal with fins", "a swimming animal")),
    ("Giraffe", animals.giraffe, ("an animal with a long neck", "a tall animal with brown patches")),
    ("Owl", animals.owl, ("a bird with large eyes", "a brown bird on a branch")),
    ("Panda", animals.panda, ("a black and white animal, sitting", "a heavy animal with black ears")),
    ("Penguin", animals.penguin, ("a black and white bird", "a bird that stands upright")),
    ("Polar_bear", animals.polar_bear, ("a large white animal", "a heavy animal with white fur")),
    ("Rabbit", animals.rabbit, ("a small animal with long ears", "a pet with upright ears")),
    ("Zebra", animals.zebra, ("a black and white animal with stripes", "a striped animal with long legs")),
)
_OBJECTS: tuple[tuple[str, Callable[[Pen], None], tuple[str, ...]], ...] = (
    ("anchor", objects.anchor, ("a heavy thing of iron", "a hook for a ship")),
    ("car_side", objects.car_side, ("a vehicle with wheels", "a vehicle from the side")),
    ("chair", objects.chair, ("a wooden seat", "furniture with four legs")),
    ("cup", objects.cup, ("a thing with a handle", "a hot drink")),
    ("ketch", objects.ketch, ("a boat with white sails", "a boat with two masts")),
    ("lamp", objects.lamp, ("a light on a table", "furniture with a shade")),
    ("pyramid", objects.pyramid, ("an old building of stone", "a triangle of stone")),
    ("soccer_ball", objects.soccer_ball, ("a round black and white toy", "a round thing for a game")),
    ("stop_sign", objects.stop_sign, ("a red sign on a post", "a sign with white letters")),
    ("sunflower", objects.sunflower, ("a plant with yellow petals", "a yellow flower")),
    ("umbrella", objects.umbrella, ("a thing with a handle for the rain", "a round roof of cloth")),
)
_FOOD: tuple[tuple[str, Callable[[Pen], None], tuple[str, ...]], ...] = (
    ("cheesecake", food.cheesecake, ("a slice on a plate", "a sweet slice with a topping")),
    ("cup_cakes", food.cup_cakes, ("a small cake with icing", "a sweet thing with a cherry")),
    ("donuts", food.donuts, ("a ring with icing", "a round sweet thing with a hole")),
    ("french_fries", food.french_fries, ("yellow sticks of potato", "a salty snack in paper")),
    ("hamburger", food.hamburger, ("a round bun with meat", "a bun with cheese and salad")),
    ("hot_dog", food.hot_dog, ("a sausage in a long bun", "a long bun with meat")),
    ("ice_cream", food.ice_cream, ("a cold sweet thing", "coloured balls in a cone")),
    ("pancakes", food.pancakes, ("a stack of cakes on a plate", "a sweet stack with syrup")),
    ("pizza", food.pizza, ("a round dish with cheese", "a flat dish with salami")),
    ("ramen", food.ramen, ("a bowl of soup", "noodles with egg")),
    ("sushi", food.sushi, ("rice with fish on a board", "small pieces of rice")),
)

_COATS: dict[str, str] = {
    "basset": "brown and white", "beagle": "brown and black", "Border_collie": "black and white",
    "Chihuahua": "light brown", "Doberman": "black and brown", "German_shepherd": "brown and black",
    "golden_retriever": "golden", "pug": "light brown and black", "Rottweiler": "black and brown",
    "Samoyed": "white", "Shiba_Dog": "red brown and white", "Shih_Tzu": "white and brown",
    "Siberian_husky": "grey and white", "standard_poodle": "white",
}  # fmt: skip
_EARS = {"prick": "pointed", "bat": "large upright", "drop": "hanging", "button": "small folded", "tuft": "hairy"}
_TAILS = {"curl": "a curled tail", "plume": "a bushy tail", "whip": "a thin tail", "stub": "a short tail"}


def _breed_words(folder: str) -> tuple[str, ...]:
    """What may be said of a breed without naming it."""
    breed, coat = dogs.BREEDS[folder], _COATS[folder]
    words = [f"a {coat} dog", f"a {coat} dog with {_TAILS[breed.tail]}", f"a dog with {_EARS[breed.ears]} ears"]
    words.append(f"a {coat} dog with {_EARS[breed.ears]} ears")
    if breed.fur != "short":
        words.append(f"a {coat} dog with {breed.fur} hair")
    if breed.legs < 0.8:
        words.append(f"a {coat} dog with short legs")
    return tuple(words)


def _paint_breed(pen: Pen, folder: str) -> None:
    dogs.dog(pen, dogs.BREEDS[folder])


CLASSES: tuple[PictureClass, ...] = (
    *(PictureClass("Animal", *row) for row in _ANIMALS),
    *(PictureClass("Caltech-101", *row) for row in _OBJECTS),
    *(PictureClass("Food-101", *row) for row in _FOOD),
    *(
        PictureClass("Thu-dog", folder, partial(_paint_breed, folder=folder), _breed_words(folder))
        for folder in dogs.BREEDS
    ),
)
