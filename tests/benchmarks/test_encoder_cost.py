"""The program that measures training through CLIP, on a tiny CLIP and without PyTorch."""

import io
import json
import sys

import numpy as np
import pytest

from benchmarks import cost_child, encoder_cost
from jclip_adapter.core.errors import DataError
from jclip_adapter.models.clip.tokenizer import encode
from jclip_adapter.runtime import jt
from tests.random_weights import TINY

CLASSES = 6


def driven(folder, method, turns=3, **values):
    out = io.StringIO()
    task = cost_child.task_of(TINY, CLASSES)
    cost_child.drive(method, {"batch_size": 8, **values}, task, iter(["step"] * turns), out, folder)
    return task, [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_step_is_taken_and_told_per_turn(tmp_path):
    _, told = driven(tmp_path, "coop", epochs=2)
    assert len(told) == 3
    assert all(answer["seconds"] > 0 and answer["peak_gb"] > 0 and answer["loss"] > 0 for answer in told)
    with np.load(tmp_path / "first.npz") as first:
        assert float(first["loss"]) == told[0]["loss"]
        assert first["vectors"].shape == first["gradient"].shape == (16, 64)
        assert np.abs(first["gradient"]).max() > 0
        assert first["photos"].shape == (8, 64)


def test_clip_lora_trains_on_photos_of_noise(tmp_path):
    _, told = driven(tmp_path, "clip-lora", turns=2, steps_per_shot=1)
    assert len(told) == 2


def test_the_tower_that_is_handed_over_gives_the_methods_loss(tmp_path):
    """What torch_reference.py computes: all positions of whole prompts."""
    task, told = driven(tmp_path, "coop", turns=1, epochs=1)
    cost_child.write_tower(task, 16, tmp_path)
    with np.load(tmp_path / "first.npz") as first, np.load(tmp_path / "tower.npz") as tower:
        x = tower["fixed"].copy()
        x[:, 1:17] = first["vectors"]
        model = task.encoder.model
        texts = model.project_text(jt.array(x + tower["positional_embedding"]), tower["end"]).numpy()
        logits = float(first["scale"]) * first["photos"] @ (texts / np.linalg.norm(texts, axis=1, keepdims=True)).T
        logits -= logits.max(axis=1, keepdims=True)
        chosen = logits[np.arange(8), first["labels"]]
    assert np.mean(np.log(np.exp(logits).sum(axis=1)) - chosen) == pytest.approx(told[0]["loss"], rel=1e-4)
    longest = max(len(encode(name)) for name in task.class_names)
    assert json.loads((tmp_path / "length.json").read_text()) == longest + 19  # start, 16 vectors, full stop, end


def test_another_gradient_is_refused(tmp_path):
    np.savez(tmp_path / "first.npz", loss=2.0, gradient=np.array([1.0, -4.0]))
    runner = encoder_cost.Runner("the other", [])
    for loss, gradient, same in ((2.001, [1.0, -4.002], True), (2.01, [1.0, -4.0], False), (2.0, [1.1, -4.0], False)):
        np.save(tmp_path / "other.npy", np.array(gradient))
        runner.answers = [{"loss": loss, "gradient": str(tmp_path / "other.npy")}]
        if same:
            assert max(encoder_cost.difference(tmp_path, runner)) < 1e-3
        else:
            with pytest.raises(DataError, match="differ from ours"):
                encoder_cost.difference(tmp_path, runner)


def test_processes_take_turns_and_one_that_ends_is_told(tmp_path):
    code = (
        'import sys\nfor n, _ in enumerate(sys.stdin): print(\'{"seconds": %d, "peak_gb": 1}\' % (n + 1), flush=True)'
    )
    runners = [encoder_cost.Runner(name, [sys.executable, "-c", code]) for name in "ab"]
    with encoder_cost.stopped(runners):
        encoder_cost.take_turns(runners, 1, 2)
    rows = [encoder_cost.row_of(runner, 1, 10, 2.5) for runner in runners]
    assert [row["seconds_per_step"] for row in rows] == [2.5, 2.5]
    assert "| a    |" in encoder_cost.table(rows)
    with pytest.raises(DataError, match="the process ended"):
        encoder_cost.Runner("c", [sys.executable, "-c", ""]).ask()


def test_the_report_says_what_it_extrapolates():
    row = {"what": "x", "seconds_per_step": 1.0, "seconds_per_epoch": 46.0, "peak_gb": 1.0, "ratio": 1.0}
    found = dict(classes=374, shots=4, batch=32, cores=2, steps_timed=3, steps_per_epoch=46, longest_prompt=25)
    alone = encoder_cost.report({**found, "rows": [row], "largest_difference": {"loss": None, "gradient": None}})
    assert "extrapolated" in alone
    assert "differ" not in alone
    beside = encoder_cost.report({**found, "rows": [row], "largest_difference": {"loss": 1e-7, "gradient": 2e-6}})
    assert "1.0e-07 and 2.0e-06" in beside
