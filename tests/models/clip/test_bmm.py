import numpy as np
import pytest

from jclip_adapter.models.clip.bmm import bmm, bmm_transposed
from jclip_adapter.runtime import jt

SHAPES = [(1, 1, 1, 1), (3, 5, 7, 2), (4, 8, 64, 17), (2, 1, 3, 33)]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_and_gradients_are_numpys(shape, transposed):
    count, n, m, k = shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((count, n, m)).astype(np.float32)
    y = rng.standard_normal((count, m, k)).astype(np.float32)
    slope = rng.standard_normal((count, n, k)).astype(np.float32)
    a, b = jt.array(x), jt.array(np.swapaxes(y, 1, 2).copy() if transposed else y)
    result = (bmm_transposed if transposed else bmm)(a, b)
    np.testing.assert_allclose(result.numpy(), x @ y, atol=1e-4)
    of_a, of_b = jt.grad((result * jt.array(slope)).sum(), [a, b])
    np.testing.assert_allclose(of_a.numpy(), slope @ np.swapaxes(y, 1, 2), atol=1e-4)
    expected = np.swapaxes(x, 1, 2) @ slope
    np.testing.assert_allclose(of_b.numpy(), np.swapaxes(expected, 1, 2) if transposed else expected, atol=1e-4)
