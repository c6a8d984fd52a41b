import numpy as np

from jclip_adapter.unseen import score_unseen


def test_unseen_classes_are_scored_on_the_heads_scale():
    rng = np.random.default_rng(4)
    zero_shot = rng.standard_normal((3, 6))
    unseen = np.array([False, True, False, False, True, False])
    # A head that is zero-shot on another scale must be completed to just that.
    np.testing.assert_allclose(
        score_unseen(np.where(unseen, 0, 5 * zero_shot - 7), zero_shot, unseen), 5 * zero_shot - 7, rtol=1e-5
    )
    np.testing.assert_allclose(score_unseen(zero_shot, zero_shot, ~unseen | unseen), zero_shot, rtol=1e-6)
    one = np.arange(6) > 0
    np.testing.assert_allclose(score_unseen(zero_shot + 3, zero_shot, one), zero_shot + 3, rtol=1e-5)
