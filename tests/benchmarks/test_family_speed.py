"""The shapes and the table of benchmarks/family_speed.py."""

from __future__ import annotations

import math

import pytest

from benchmarks.family_speed import SHAPES, configurations, gflop, table
from jclip_adapter.models.clip.shapes import shapes_of

# Millions of parameters of image towers. Source: open_clip, docs/model_profile.csv.
PUBLISHED = {"ViT-B/32": 87.85, "ViT-B/16": 86.19, "SigLIP B/16": 92.88}


def test_image_towers_have_their_published_sizes() -> None:
    configs = configurations()
    assert configs.keys() == SHAPES.keys()
    for name, millions in PUBLISHED.items():
        sizes = [math.prod(shape) for key, shape in shapes_of(configs[name]).items() if key.startswith("visual.")]
        assert sum(sizes) / 1e6 == pytest.approx(millions, abs=0.01), name


def test_products_of_a_photo() -> None:
    configs = configurations()
    # open_clip's profile says 8.82 for all of it; of the last block most is not needed for the class token.
    assert gflop(configs["ViT-B/32"]) == pytest.approx(8.82 * 11.35 / 12, rel=0.02)
    assert gflop(configs["ViT-B/16"]) / gflop(configs["ViT-B/32"]) == pytest.approx(35.1 / 8.8, rel=0.01)


def test_ratios_are_of_the_same_round() -> None:
    facts = {"precision": "float32", "gflop": 2.0, "products": [100.0, 50.0, 100.0]}
    measured = [
        {"model": "ViT-B/32", "way": "ours", "rates": [20.0, 10.0, 20.0], **facts},
        {"model": "ViT-B/32", "way": "PyTorch, open_clip", "rates": [10.0, 5.0, 10.0], **facts},
        {"model": "PE-Core B/16", "way": "ours", "rates": [19.0, 9.0, 18.0], **facts},
    ]
    found = [(row["share"], row["of_vit_b_32"], row["of_ours"]) for row in table(measured, 3)]
    assert found == [("0.400", "1.00", "1.00"), ("0.200", "1.00", "0.50"), ("0.360", "0.90", "1.00")]
