"""Every check of the conformance suite on every method that there is."""

import inspect

import pytest

from jclip_adapter.methods import available

from .conformance import CHECKS


def test_the_suite_is_whole():
    assert len(CHECKS) >= 30
    assert len({check.__name__ for check in CHECKS}) == len(CHECKS)
    assert all(inspect.getdoc(check) for check in CHECKS)
    assert available()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("name", available())
def test_conforms(name, check):
    check(name)
