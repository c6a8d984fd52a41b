import numpy as np
import pytest

from jclip_adapter.methods.training.class_columns import ClassColumns
from jclip_adapter.runtime import jt

LABELS = {"even": [0, 0, 1, 1, 2, 2], "uneven": [0, 1, 1, 1, 2], "unsorted": [2, 0, 2, 1]}


@pytest.mark.parametrize("case", LABELS)
def test_it_is_the_product_with_one_hot_labels(case):
    """Values and gradients, in both directions."""
    labels, rng = np.array(LABELS[case]), np.random.default_rng(0)
    one_hot = np.eye(3, dtype=np.float32)[labels]
    columns = ClassColumns(labels, 3)
    for function, matrix in ((columns.of_shots, one_hot.T), (columns.sums, one_hot)):
        rows = rng.standard_normal((4, len(matrix))).astype(np.float32)
        weight = rng.standard_normal((4, matrix.shape[1])).astype(np.float32)
        given = jt.array(rows)
        found = function(given)
        np.testing.assert_allclose(found.numpy(), rows @ matrix, atol=1e-6)
        slope = jt.grad((found * jt.array(weight)).sum(), given).numpy()
        np.testing.assert_allclose(slope, weight @ matrix.T, atol=1e-6)
