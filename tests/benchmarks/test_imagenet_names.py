"""benchmarks.imagenet_names on logits made by hand."""

from __future__ import annotations

import numpy as np

from benchmarks import imagenet_names
from jclip_adapter.core.task import ImageNetHead

IDS = ((0, 1, 2, 3), (0,), ())  # all dogs, one breed, and a class that ImageNet lacks
HEAD = ImageNetHead(np.zeros((5, 2), np.float32), np.zeros(5, np.float32), IDS)


def best(rule: str, *p: float) -> int:
    return int(imagenet_names.RULES[rule](np.log(np.array([p])), HEAD).argmax())


def test_the_rules_divide_a_photo_of_a_breed_between_breed_and_dogs() -> None:
    photo = (0.45, 0.25, 0.15, 0.1, 0.05)
    assert best("sum", *photo) == 0  # 0.5 of other breeds, and a fifth of this one's 0.45
    assert [best(rule, *photo) for rule in ("mean logit", "mean")] == [1, 1]
    assert best("sum/√n", *photo) == 0  # 0.95/2 for dogs
    assert best("sum/√n", 0.5, 0.25, 0.15, 0.05, 0.05) == 1
    np.testing.assert_allclose(imagenet_names.shared(HEAD), [[0.2, 0.8, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]])


def test_only_the_mean_logit_never_predicts_a_class_without_a_name() -> None:
    photo = (0.02, 0.01, 0.01, 0.01, 0.95)
    assert [best(rule, *photo) for rule in imagenet_names.RULES] == [2, 1, 2, 2]


def test_the_table_has_a_line_per_rule() -> None:
    rows = [
        {"network": "lite0", "photos": "test", "rule": rule, "domain": domain, "top1": "50.00"}
        for rule in imagenet_names.RULES
        for domain in ("Animal", "total")
    ]
    assert imagenet_names.table(rows).count("50.0 %") == 2 * len(imagenet_names.RULES)
