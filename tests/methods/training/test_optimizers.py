import re

import numpy as np
import pytest

from jclip_adapter.methods.training.optimizers import SGD, Adam, AdamW, constant_warmup_cosine, cosine, warmup_cosine
from jclip_adapter.runtime import jt
from tests.golden_files import Golden

RATES = (1e-2, 3e-2, 1e-3, 2e-2, 5e-3, 1e-2)


def gradient(theta):
    """Of Σ a·θ² + b·θ: small values of a let eps matter."""
    return 2 * SLOPE * theta + OFFSET


SLOPE = np.array([1.0, 1e-3, 0.5, 1e-7])
OFFSET = np.array([0.3, -1e-7, 2.0, 3e-8])
START = np.array([0.7, -0.2, 0.1, 0.9])


def descend(optimiser, *, rates=RATES, **values):
    theta = jt.array(START.astype(np.float32))
    steps = optimiser([theta], RATES[0], **values)
    for rate in rates:
        loss = (float32(SLOPE) * theta * theta + float32(OFFSET) * theta).sum()
        steps.step(loss, rate)
    return theta.numpy()


def float32(array):
    return jt.array(array.astype(np.float32)).stop_grad()


def adam(*, decay, decoupled, eps):
    """PyTorch's Adam and AdamW in float64."""
    theta, first, second, betas = START.copy(), 0.0, 0.0, (0.9, 0.999)
    for step, rate in enumerate(RATES, start=1):
        slope = gradient(theta)
        if decoupled:
            theta = theta * (1 - rate * decay)
        else:
            slope = slope + decay * theta
        first = betas[0] * first + (1 - betas[0]) * slope
        second = betas[1] * second + (1 - betas[1]) * slope**2
        root = np.sqrt(second / (1 - betas[1] ** step)) + eps
        theta = theta - rate * first / (1 - betas[0] ** step) / root
    return theta


@pytest.mark.parametrize("eps", [1e-8, 1e-4])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam_and_adamw_are_pytorchs(eps, decay):
    close = {"rtol": 2e-5, "atol": 1e-6}
    np.testing.assert_allclose(
        descend(Adam, eps=eps, weight_decay=decay), adam(decay=decay, decoupled=False, eps=eps), **close
    )
    np.testing.assert_allclose(
        descend(AdamW, eps=eps, weight_decay=decay), adam(decay=decay, decoupled=True, eps=eps), **close
    )


def test_adamw_decays_by_default():
    np.testing.assert_allclose(descend(AdamW), adam(decay=0.01, decoupled=True, eps=1e-8), rtol=2e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_sgd_starts_with_the_gradient_itself(momentum, decay):
    theta, velocity = START.copy(), None
    for rate in RATES:
        slope = gradient(theta) + decay * theta
        velocity = slope if velocity is None else momentum * velocity + slope
        theta = theta - rate * velocity
    np.testing.assert_allclose(descend(SGD, momentum=momentum, weight_decay=decay), theta, rtol=1e-5)


def test_tiny_gradients_do_not_become_nan():
    """The square of 1e-18 is a denormal number in float32."""
    for optimizer in (Adam, AdamW):
        theta = jt.array(np.ones(64, np.float32))
        steps = optimizer([theta], 1e-3, eps=1e-3)
        for _ in range(3):
            steps.apply([jt.array(np.geomspace(1e-25, 1e-16, 64).astype(np.float32))])
            jt.sync(steps.variables())
        assert np.isfinite(theta.numpy()).all()


def test_a_step_without_a_rate_takes_the_constructors():
    np.testing.assert_array_equal(descend(Adam, rates=[None, None]), descend(Adam, rates=[RATES[0]] * 2))
    assert not np.array_equal(descend(Adam, rates=[None]), descend(Adam, rates=[RATES[1]]))


def test_a_rate_of_zero_moves_nothing():
    for optimiser in (Adam, AdamW, SGD):
        np.testing.assert_array_equal(descend(optimiser, rates=[0.0, 0.0], weight_decay=0.1), START.astype(np.float32))


@pytest.mark.golden
def test_the_warm_up_is_the_originals():
    golden = Golden("cross_modal")
    facts = golden.facts["arguments"]
    names = [key for key in golden.arrays if key.endswith("_lrs")]
    assert len(names) > 1
    for name in names:
        lr = facts["adapter" if name.startswith("adapter") else "linear"]["lr"]
        warmup, floor = facts["warmup"]["iters"], facts["warmup"]["min_lr"]
        stated = re.search(r"T_max (\d+)", facts["logit_scale"]) if "short" in name else None
        period = int(stated[1]) if stated else facts["cosine_T_max"]
        rates = [warmup_cosine(step, lr, period, warmup=warmup, floor=floor) for step in range(len(golden[name]))]
        np.testing.assert_allclose(rates, golden[name], rtol=golden.tolerance("lrs_rtol"), err_msg=name)


def test_schedules_end_and_start_where_they_say():
    assert cosine(0, 0.5, 10) == 0.5
    assert cosine(10, 0.5, 10) == pytest.approx(0, abs=1e-12)
    assert warmup_cosine(0, 0.5, 10, warmup=0) == 0.5
    assert constant_warmup_cosine(0, 0.5, 10) == 1e-5
    assert constant_warmup_cosine(1, 0.5, 10) == 0.5
