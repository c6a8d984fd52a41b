"""Natural order."""

import functools
import random

from hypothesis import given
from hypothesis import strategies as st

from jclip_adapter.core.natural import natural_key

natural_sorted = functools.partial(sorted, key=natural_key)
_NAMES = st.text("a0123459_.é²٣", max_size=8)


def test_numbers_compare_as_numbers():
    names = ["image_10.jpg", "image_9.jpeg", "image_9.jpg", "image_100.jpg", "Image_1.jpg", "image_.jpg", "10", "9", ""]
    in_order = "  9 10 Image_1.jpg image_9.jpeg image_9.jpg image_10.jpg image_100.jpg image_.jpg"
    assert natural_sorted(names) == in_order.split(" ")[1:]


@given(st.lists(st.integers(0, 10**30), unique=True))
def test_numbered_names_follow_their_numbers(numbers):
    assert natural_sorted(f"x{n}.jpg" for n in numbers) == [f"x{n}.jpg" for n in sorted(numbers)]


@given(st.lists(_NAMES), st.randoms(use_true_random=False))
def test_the_order_is_total(names, rng: random.Random):
    shuffled = list(names)
    rng.shuffle(shuffled)
    assert natural_sorted(shuffled) == natural_sorted(names)


@given(_NAMES, _NAMES)
def test_only_equal_names_have_equal_keys(one, other):
    assert (natural_key(one) == natural_key(other)) == (one == other)


def test_absurdly_long_numbers():
    assert natural_sorted(["a" + "9" * 5000, "a1"]) == ["a1", "a" + "9" * 5000]
