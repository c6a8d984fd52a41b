"""Many heads trained at once take PyTorch's steps; ImageNet-ESC's trainings have the outcomes of the authors' code."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from jclip_adapter.core.task import normalise
from jclip_adapter.data.texts.imagenet_esc import benchmark_classes
from jclip_adapter.methods.training.many_heads import Curves, ManyHeads, seeded_order, train_heads
from jclip_adapter.methods.training.optimizers import warmup_cosine
from tests.golden_files import Golden

SCALE = float(np.exp(4.60517))
GOLDEN = Golden("imagenet_esc")
CASES = sorted(GOLDEN.facts["results"])


class Training(NamedTuple):
    """One of the golden trainings."""

    heads: ManyHeads
    orders: npt.NDArray[np.int64]
    rates: npt.NDArray[np.float64]
    val: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    start: np.ndarray


def of_classes(features: np.ndarray, labels: np.ndarray, known: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Normalised rows of known classes, and their numbers."""
    kept = np.isin(labels, known)
    return normalise(features[kept]), np.searchsorted(known, labels[kept])


def means(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return normalise(np.stack([rows[labels == label].mean(axis=0) for label in range(labels.max() + 1)]))


def training(name: str) -> Training:
    """A golden training, put together from the features as the benchmark's description says."""
    facts: dict[str, Any] = GOLDEN.facts["results"][name]
    classes = benchmark_classes(int(facts["benchmark"].removeprefix("imagenet_")))
    known = [each.imagenet for each in classes]
    names = GOLDEN.facts["audio_class_names"]
    number_of = {names.index(each.category): each.imagenet for each in classes}
    shots, split, other_seed = facts["shots"], facts["split"], facts["other_seed"]

    def fold(number: int) -> tuple[np.ndarray, np.ndarray]:
        own = GOLDEN[f"audio_fold{number}_class"]
        return of_classes(GOLDEN[f"audio_fold{number}"], np.array([number_of.get(value, -1) for value in own]), known)

    def first(rows: np.ndarray, labels: np.ndarray, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = np.concatenate([np.flatnonzero(labels == label)[begin:end] for label in range(len(known))])
        return rows[chosen], labels[chosen]

    def pictures(part: str) -> tuple[np.ndarray, np.ndarray]:
        return of_classes(GOLDEN[f"image_{part}"], GOLDEN[f"image_{part}_label"], known)

    text = of_classes(GOLDEN["text"], GOLDEN["text_label"], known)
    if facts["task"] == "image":
        own, val = (pictures(f"{part}_shot{shots}_seed{split + 1}") for part in ("train", "val"))
        test = pictures("test")
        other = first(*fold(other_seed), 0, 1)
    else:
        own, val = (first(*fold(split), begin, begin + shots) for begin in (0, shots))
        parts = [fold(number) for number in range(5) if number != split]
        test = (np.concatenate([rows for rows, _ in parts]), np.concatenate([labels for _, labels in parts]))
        other = pictures(f"train_shot1_seed{other_seed + 1}")
    beside = {
        "linear_prob": [],
        "audiovisual_linear_prob": [other],
        "plustext_linear_prob": [text],
        "allmodal_linear_prob": [other, text],
    }[facts["mode"]]
    steps, seed = facts["iterations"], GOLDEN.facts["recipe"]["seed"]
    start = GOLDEN[f"{name}_W0"]
    orders = seeded_order(len(own[0]), 4 if beside else 8, steps, seed, 1)
    rows, labels = own
    if beside:
        joined = tuple(np.concatenate(parts) for parts in zip(*beside, strict=True))
        start = means(*joined)
        orders = np.concatenate([orders, len(rows) + seeded_order(len(joined[0]), 4, steps, seed, 2)], axis=1)
        rows, labels = np.concatenate([rows, joined[0]]), np.concatenate([labels, joined[1]])
    heads = ManyHeads(start[None], rows, labels, [facts["weight_decay"]], SCALE)
    rates = np.array([[warmup_cosine(step, facts["lr"], steps) for step in range(steps)]])
    return Training(heads, orders[None], rates, val, test, start)


def trained(each: Training) -> Curves:
    return train_heads(each.heads, each.orders, each.rates, each.val, each.test)


@pytest.mark.golden
@pytest.mark.parametrize("name", CASES)
def test_first_steps(name: str) -> None:
    each, limits = training(name), GOLDEN.facts["tolerance"]
    np.testing.assert_allclose(each.start, GOLDEN[f"{name}_W0"], atol=5e-5)
    shown = slice(None, None, each.rates.shape[1] // len(GOLDEN[f"{name}_lrs"]))
    np.testing.assert_allclose(each.rates[0, shown], GOLDEN[f"{name}_lrs"], rtol=limits["lrs_rtol"])
    taken = sorted(int(key.rpartition("step")[2]) for key in GOLDEN.arrays if key.startswith(f"{name}_W_step"))
    assert taken[:2] == [1, 2]
    assert max(taken) >= 20
    for begin, end in itertools.pairwise([0, *taken]):
        each.heads.step(each.orders[:, begin:end], each.rates[:, begin:end])
        atol = limits["W_step1, W_step2 atol"]
        if end > 2:
            atol = max(atol, 10 * GOLDEN.facts["accuracy"][name][f"W step {end}"])
        np.testing.assert_allclose(each.heads.weights[0], GOLDEN[f"{name}_W_step{end}"], atol=atol, err_msg=str(end))


@pytest.mark.golden
@pytest.mark.parametrize("name", CASES)
def test_outcomes(name: str) -> None:
    each, facts, accuracy = training(name), GOLDEN.facts["results"][name], GOLDEN.facts["accuracy"][name]
    found = trained(each)
    if facts["lr"] == 0.1:  # chaotic: the authors' own code gives other weights in float64
        assert found.losses[0, 0] == pytest.approx(facts["first_loss"], rel=1e-4)
        return

    def close(value: npt.ArrayLike, wanted: npt.ArrayLike, key: str) -> None:
        np.testing.assert_allclose(value, wanted, atol=max(5e-5, 10 * accuracy[key]), err_msg=key)

    shown = slice(None, None, each.rates.shape[1] // len(GOLDEN[f"{name}_losses"]))
    close(found.weights[0], GOLDEN[f"{name}_W_last"], "W last")
    close(found.losses[0, shown], GOLDEN[f"{name}_losses"], "losses")
    logits = SCALE * each.test[0][:20] @ found.weights[0].T
    close(logits, GOLDEN[f"{name}_test_logits_last_first20"], "logits")
    assert found.iteration[0] == facts["best_iter"]
    assert found.val[0] == pytest.approx(facts["best_val_acc"])
    assert found.test[0] == pytest.approx(facts["test_acc_at_best"])


def test_each_head_has_its_own_rates_decay_and_batches() -> None:
    """Together they give what each gives alone, and a float64 AdamW gives the same."""
    rng = np.random.default_rng(0)
    count, classes, width, steps = 5, 7, 37, 12
    rows, labels = normalise(rng.standard_normal((30, width))), rng.integers(0, classes, 30)
    weights = normalise(rng.standard_normal((count, classes, width)))
    orders = rng.integers(0, 30, (count, steps, 6))
    rates, decays = rng.uniform(0.001, 0.01, (count, steps)), rng.uniform(0, 0.1, count)
    together = ManyHeads(weights, rows, labels, decays, 20.0)
    losses = np.concatenate([together.step(orders[:, :5], rates[:, :5]), together.step(orders[:, 5:], rates[:, 5:])], 1)
    for number in range(count):
        weight, mean, square = weights[number].astype(np.float64), 0.0, 0.0
        for step in range(steps):
            x, y = rows[orders[number, step]].astype(np.float64), labels[orders[number, step]]
            scores = 20 * x @ weight.T
            share = np.exp(scores - scores.max(axis=1, keepdims=True))
            share /= share.sum(axis=1, keepdims=True)
            assert losses[number, step] == pytest.approx(-np.log(share[range(6), y]).mean(), rel=1e-4)
            gradient = 20 * (share - np.eye(classes)[y]).T @ x / 6
            mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
            rate, past = rates[number, step], step + 1
            weight = weight * (1 - rate * decays[number])
            weight -= rate * mean / (1 - 0.9**past) / (np.sqrt(square / (1 - 0.999**past)) + 1e-8)
        np.testing.assert_allclose(together.weights[number], weight, atol=2e-5)


def test_the_first_of_equal_iterations_is_taken() -> None:
    rng = np.random.default_rng(0)
    rows, labels = normalise(rng.standard_normal((8, 16))), np.arange(8) % 2
    heads = ManyHeads(rows[None, :2], rows, labels, [0.0], 100.0)
    found = train_heads(
        heads, np.tile(np.arange(8), (1, 40, 1)), np.zeros((1, 40)), (rows, labels), (rows, 1 - labels), 10
    )
    assert found.iteration.tolist() == [0]
    assert found.val[0] + found.test[0] == pytest.approx(1)
    np.testing.assert_array_equal(found.weights[0], rows[:2])
