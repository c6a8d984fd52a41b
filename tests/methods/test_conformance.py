"""Every check of the conformance suite on every method that there is."""

import inspect

import pytest

from jclip_adapter.methods import available, get

from .conformance import CHECKS, FEATURES_ONLY, HAS_GRID, THROUGH_CLIP, checks_for, rooms_for


def test_the_suite_is_whole():
    """53 checks; 2 of them need a grid, and 2 features alone; 8 more are for methods through CLIP."""
    assert (len(CHECKS), len(HAS_GRID), len(FEATURES_ONLY), len(THROUGH_CLIP)) == (53, 2, 2, 8)
    checks = [*CHECKS, *THROUGH_CLIP]
    assert len({check.__name__ for check in checks}) == len(checks)
    assert all(inspect.getdoc(check) for check in checks)
    kinds = {(("encoder" in get(name).meta.needs), ("images" in get(name).meta.tunes)) for name in available()}
    assert kinds == {(False, False), (True, False), (True, True)}
    assert [len(checks_for(name)) for name in ("gda", "zero-shot", "coop", "full")] == [53, 51, 59, 57]
    for name in available():
        assert [check for room in rooms_for(name).values() for check in room] == checks_for(name)


@pytest.mark.parametrize(
    ("name", "room"),
    [
        # A method's checks share what was fitted for them, and run in one process.
        pytest.param(name, room, id=f"{name}-{room}", marks=pytest.mark.xdist_group(name))
        for name in available()
        for room in rooms_for(name)
    ],
)
def test_conforms(name, room, subtests):
    for check in rooms_for(name)[room]:
        with subtests.test(check.__name__):
            check(name)
