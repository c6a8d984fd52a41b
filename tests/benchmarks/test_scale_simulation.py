"""The simulation against values that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks import scale_simulation
from benchmarks.part_times import NETWORK, SIZES, Value
from benchmarks.scale_events import Loss, Work, simulate
from benchmarks.scale_simulation import HOUR, Assumptions, Measured, excesses, rows_of, work_of
from jclip_adapter.core.choices import PART_PHOTOS


def work(parts: int, workers: int, losses: dict[int, Loss] | None = None, **options: object) -> Work:
    """Parts of ten seconds; a loss per node, once."""

    def next_loss(node: int, now: float) -> Loss | None:
        loss = (losses or {}).get(node)
        return loss if loss and now < loss.at else None

    settings = {"speeds": [1.0] * workers, "per_node": 1, "part_seconds": np.array([10.0]), "next_loss": next_loss}
    return Work(parts, **{**settings, **options})


@pytest.mark.parametrize(
    ("parts", "workers"), [(1, 1), (7, 3), (3, 7), (1000, 8), (1001, 8), (12345, 17), (10**6, 100)]
)
def test_equal_parts_on_equal_workers_take_full_turns(parts: int, workers: int) -> None:
    out = simulate(work(parts, workers), 0)
    assert out.seconds == pytest.approx(10 * math.ceil(parts / workers))
    assert out.busy == pytest.approx(10 * parts)
    assert out.wasted == out.repeated == 0


def test_workers_start_before_they_encode() -> None:
    assert simulate(work(7, 3, start_seconds=2.5), 0).seconds == pytest.approx(32.5)


def test_a_slow_worker_gets_fewer_parts() -> None:
    """Twice as long: parts end at 10, 20, 20, 30, 40, 40, …"""
    assert simulate(work(6, 2, speeds=[1.0, 2.0]), 0).seconds == pytest.approx(40)
    assert simulate(work(1, 1, speeds=[2.0]), 0).seconds == pytest.approx(20)


def test_a_lost_node_repeats_the_part_in_flight_only() -> None:
    """Of four parts two are done at 10; node 1 goes at 15; node 0 does its second at 20, and the lost one at 30."""
    out = simulate(work(4, 2, {1: Loss(15.0, math.inf)}), 0)
    assert (out.seconds, out.wasted, out.repeated, out.busy) == pytest.approx((30, 5, 1, 45))


def test_a_lost_node_repeats_a_part_of_each_of_its_workers() -> None:
    out = simulate(work(100, 4, {0: Loss(34.0, math.inf)}, per_node=2), 0)
    assert (out.wasted, out.repeated) == pytest.approx((8, 2))
    assert out.busy == pytest.approx(1000 + 8)


def test_a_node_that_comes_back_starts_anew() -> None:
    """Lost at 15, back at 40, ready at 43: the second part ends at 53, the third at 63."""
    out = simulate(work(3, 1, {0: Loss(15.0, 40.0)}, start_seconds=3.0), 0)
    assert (out.seconds, out.wasted, out.repeated) == pytest.approx((63, 2, 1))


def test_an_idle_worker_takes_over_a_lost_part() -> None:
    """Worker 0 has nothing to do from 10 on, and takes the slow worker's part at 12."""
    out = simulate(work(2, 2, {1: Loss(12.0, math.inf)}, speeds=[1.0, 5.0]), 0)
    assert (out.seconds, out.repeated, out.wasted) == pytest.approx((22, 1, 12))


def test_parts_that_are_drawn_together_are_lost_one_by_one() -> None:
    """A hundred thousand parts in a few events: a loss still costs a part per worker."""
    out = simulate(work(100_000, 2, {0: Loss(123_456.0, 130_000.0)}), 0)
    assert (out.wasted, out.repeated) == pytest.approx((6, 1))
    assert out.busy == pytest.approx(1e6 + 6)
    assert out.seconds == pytest.approx((1e6 + 6 + 130_000 - 123_456) / 2, abs=10)


def test_seconds_are_drawn_from_what_was_measured() -> None:
    times = np.array([1.0, 3.0])
    few, many = (simulate(work(parts, 1, part_seconds=times), 3).seconds for parts in (50, 40_000))
    assert 50 < few < 150
    assert few == round(few)
    assert many == pytest.approx(80_000, rel=0.02)
    assert simulate(work(50, 1, part_seconds=times), 3).seconds == few


@pytest.fixture
def measured() -> Measured:
    """A photo takes a fifth of a core-second, so two cores a tenth of a second; writing 1 s and 1 ms per photo."""
    values = [Value("encode a part", NETWORK, 100, 11.1, "s"), Value("start a worker", NETWORK, 1, 5.0, "s")]
    values.append(Value("encode a part, all cores", NETWORK, 100, 20.0, "core-s"))
    for size in SIZES:
        values.append(Value("write a part", "float32", size, 1 + size / 1000, "s"))
        values += [Value("memory of a part", "float32", size, size / 100, "MB")]
        values += [
            Value("list a photo", "list", size, 1e-6, "s"),
            Value("memory of a unit", "list", size, size / 1e4, "MB"),
        ]
    return Measured.of(values)


def test_a_plan_is_what_was_measured(measured: Measured) -> None:
    given = Assumptions(slow_share=0.0)
    cores = work_of((10_001, "2 cores", 4), 1000, "none", measured, given, 0)
    assert (cores.parts, list(cores.speeds), cores.start_seconds) == (11, [1.0] * 4, 5.0)
    assert cores.part_seconds == pytest.approx([102.0])
    gpu = work_of((10_000, "GPU", 1), 1000, "none", measured, given, 0)
    assert gpu.part_seconds == pytest.approx([1000 / given.gpu_rate + 2])
    slow = work_of((10_000, "GPU", 10_000), 1000, "none", measured, Assumptions(), 0)
    assert np.mean(np.array(slow.speeds) == 2) == pytest.approx(0.05, abs=0.01)


def test_the_spread_is_that_of_the_seconds_and_the_mean_that_of_the_core_seconds(measured: Measured) -> None:
    values = [Value("encode a part", NETWORK, 100, second, "s") for second in (10.0, 20.0, 40.0)]
    values += [
        Value("encode a part, all cores", NETWORK, 100, 20.0, "core-s"),
        Value("start a worker", NETWORK, 1, 5, "s"),
    ]
    for what, case in (("write a part", "float32"), ("memory of a part", "float32"), ("memory of a unit", "list")):
        values += [Value(what, case, size, 1.0, "s") for size in SIZES]
    values.append(Value("list a photo", "list", SIZES[-1], 1e-6, "s"))
    assert Measured.of(values).photo_seconds == pytest.approx([0.05, 0.1, 0.2])


def test_rows_count_hours_files_and_memory(measured: Measured) -> None:
    rows = rows_of((36_000, "2 cores", 1), "none", measured, Assumptions(slow_share=0.0))
    row = next(row for row in rows if row["part_photos"] == 1_000)
    assert (row["parts"], row["files"]) == (36, 73)
    assert float(row["hours"]) == pytest.approx((36 * 102 + 5) / HOUR, rel=1e-4)
    assert float(row["worker_hours"]) == pytest.approx(36 * 102 / HOUR, rel=1e-2)
    assert (row["units_in_flight_mb"], row["worker_mb"]) == ("0.10", "10")
    (own,) = excesses(rows).values()
    assert min(own.values()) == 0


def test_nodes_are_lost_as_often_as_assumed() -> None:
    given = Assumptions()
    draw = given.losses("failures and preemptions", np.random.default_rng(0))
    losses = [loss for _ in range(50_000) if (loss := draw(0, 100.0))]
    away = [loss.back - loss.at for loss in losses]
    assert np.mean([loss.at - 100 for loss in losses]) == pytest.approx(24 * HOUR / (2 + 1 / 47), rel=0.05)
    assert set(np.round(away, 3)) == {300.0, 3600.0}
    assert np.mean(np.array(away) > 1000) == pytest.approx((1 / 47) / (2 + 1 / 47), rel=0.1)
    assert given.losses("none", np.random.default_rng(0))(0, 0.0) is None


@pytest.mark.parametrize("words", [["--gpu-rate", "0"], ["--slow-factor", "0.5"], ["--repair-hours", "-1"]])
def test_impossible_assumptions_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert scale_simulation.main(words) == 2
    assert "error" in capsys.readouterr().err


def test_the_default_size_is_the_best_of_those_with_about_a_million_files() -> None:
    """What docs/scale.md says of the default, out of the committed results."""
    rows = scale_simulation.saved_rows()
    assert len(rows) == len(scale_simulation.PLANS) * 2 * len(scale_simulation.SIZES)
    files = {int(row["part_photos"]): int(row["files"]) for row in rows if row["photos"] == str(10**9)}
    worst = {size: max(own[size] for own in excesses(rows).values()) for size in files if files[size] < 1.1e6}
    assert min(worst, key=worst.__getitem__) == PART_PHOTOS
