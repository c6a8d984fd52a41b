"""Names of other projects' weights, to OpenAI's and back."""

from __future__ import annotations

import numpy as np
import pytest

from jclip_adapter.core.errors import WeightsError
from jclip_adapter.models.families.layout import Entry, affine, packed, renamed, restored

LAYOUT = [
    Entry("proj", ("head.weight",), transposed=True),
    Entry("probe", ("latent",), axes=2),
    *packed(["q", "kv"], "attn", (1, 2)),
    *affine({"norm": "ln"}, "a.", "b."),
]


def theirs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"head.weight": (2, 3), "latent": (1, 1, 3), "q.weight": (3, 3), "q.bias": (3,)}
    shapes |= {"kv.weight": (6, 3), "kv.bias": (6,), "a.norm.weight": (3,), "a.norm.bias": (3,)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def test_weights_are_renamed_and_restored() -> None:
    given = theirs()
    ours = renamed(LAYOUT, given)
    names = ("proj", "probe", "attn.in_proj_weight", "attn.in_proj_bias", "b.ln.weight", "b.ln.bias")
    assert tuple(ours) == names
    np.testing.assert_array_equal(ours["proj"], given["head.weight"].T)
    np.testing.assert_array_equal(ours["probe"], given["latent"][0, 0])
    np.testing.assert_array_equal(ours["attn.in_proj_weight"][3:], given["kv.weight"])
    back = restored(LAYOUT, ours)
    assert back.keys() == given.keys()
    for name, value in given.items():
        np.testing.assert_array_equal(back[name], value)


def test_a_name_that_is_not_in_the_layout() -> None:
    assert renamed(LAYOUT, {"other": np.ones(2, np.float32)}).keys() == {"other"}
    with pytest.raises(ValueError, match="no name for other"):
        restored(LAYOUT, {"other": np.ones(2, np.float32)})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"q.weight": None}, r"expected q\.weight, kv\.weight of one shape"),
        ({"q.weight": (4, 3)}, "of one shape"),
        ({"kv.weight": (6, 4)}, "of one shape"),
        ({"q.bias": ()}, "of one shape"),
        ({"head.weight": (6,)}, "expected a matrix"),
        ({"latent": (1, 3)}, "expected 2 axes of length 1"),
        ({"latent": (2, 1, 3)}, "expected 2 axes of length 1"),
    ],
)
def test_misshapen_weights(change: dict[str, tuple[int, ...] | None], told: str) -> None:
    given = theirs()
    for name, shape in change.items():
        given.pop(name)
        if shape is not None:
            given[name] = np.ones(shape, np.float32)
    with pytest.raises(WeightsError, match=told):
        renamed(LAYOUT, given)
