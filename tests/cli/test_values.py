import pytest

from jclip_adapter.cli.values import parse_effective_classes, parse_engine, parse_noise
from jclip_adapter.core.errors import UsageError


@pytest.mark.parametrize("text", ["", "0", "5-3", "-3", "3-", "a", "3-4-5", "1e3", "٣", "5\n"])
def test_no_range_of_classes(text):
    with pytest.raises(UsageError, match="expected K or K-L") as caught:
        parse_effective_classes(text)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("text", ["", "0", "0,0", "-0.3", "nan", "inf", "0.3,", "1,2,3", "a", "101"])
def test_no_noise(text):
    with pytest.raises(UsageError, match="expected a positive number"):
        parse_noise(text)


def test_noise_on_test_photos_alone():
    assert parse_noise("0,0.5") == (0.0, 0.5)


@pytest.mark.parametrize(
    "text", ["", "Ray", "dask", "ray:/head:1", "ray://", "ray://head", "ray://a b:1", "ray://h:1\n"]
)
def test_no_engine(text):
    with pytest.raises(UsageError, match="expected local, ray") as caught:
        parse_engine(text)
    assert "\n" not in caught.value.message
