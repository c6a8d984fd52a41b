"""No method uses operators of Jittor's that are made of cub, which do not compile with CUDA 13."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jclip_adapter.methods import available
from jclip_adapter.methods.training.loop import count_hits
from jclip_adapter.runtime import jt
from jclip_adapter.runtime.cuda_guard import WITHOUT
from tests.methods.conformance.worlds import quick, world


class CubError(Exception):
    """An operator of cub was called."""


@pytest.fixture
def without_cub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators of cub raise an error, wherever they are called from."""

    def refuse(name: str, genuine: Any) -> Any:
        def refused(*arguments: Any, **more: Any) -> Any:
            if name == "where" and len(arguments) + len(more) == 3:
                return genuine(*arguments, **more)  # chooses between two values, and needs no cub
            raise CubError(name)

        return refused

    for name in WITHOUT:
        for owner in (jt, jt.Var):
            if hasattr(owner, name):
                monkeypatch.setattr(owner, name, refuse(name, getattr(owner, name)))


@pytest.mark.usefixtures("without_cub")
@pytest.mark.parametrize("name", available())
def test_a_method_does_without(name: str) -> None:
    given = world(name)
    assert quick(name).fit(given.task).logits(given.queries).shape == (len(given.answers), given.task.num_classes)


@pytest.mark.usefixtures("without_cub")
@pytest.mark.parametrize(
    "use",
    [
        lambda x: x.argmax(dim=1),
        lambda x: jt.argmin(x, 1),
        lambda x: jt.topk(x, 2),
        lambda x: x.sort(),
        lambda x: x.cumsum(dim=1),
        lambda x: jt.where(x > 0),
        lambda x: x.nonzero(),
    ],
)
def test_one_that_does_not_is_found(use: Any) -> None:
    with pytest.raises(CubError):
        use(jt.ones((2, 3)))


@pytest.mark.parametrize("classes", [1, 2, 5, 101])
def test_hits_are_those_of_argmax(classes: int) -> None:
    """Equal scores included: the first one counts."""
    rng = np.random.default_rng(classes)
    scores, labels = rng.integers(0, 3, (40, classes)).astype(np.float32), rng.integers(0, classes, 40)
    found = int(count_hits(jt.array(scores), jt.array(labels.astype(np.int32))).item())
    assert found == (scores.argmax(axis=1) == labels).sum()
    alike = np.zeros((classes, classes), np.float32)
    assert int(count_hits(jt.array(alike), jt.array(np.arange(classes, dtype=np.int32))).item()) == 1
