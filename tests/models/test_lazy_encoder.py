"""Jittor is started for what has to be computed, and for nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import ROOT
from jclip_adapter import runtime
from jclip_adapter.core.errors import UsageError, WeightsError
from jclip_adapter.core.task import Lazy
from jclip_adapter.models.clip.encoder import load_encoder
from jclip_adapter.models.weights import read_state_dict
from jclip_adapter.runtime import planning
from tests.conftest import PREDICT, Cli
from tests.random_weights import write_jclip

WATCHED = """
import sys
from jclip_adapter.cli.app import main
status = main(sys.argv[1:])
loaded = {"jittor", "jittor_utils"} & set(sys.modules)
sys.exit(status or (f"imported: {loaded}" if loaded else 0))
"""
BENCHMARK = ("--benchmark", "--weights", "tiny.pkl", "--method", "zero-shot,coop", "--set", "epochs=1")
RETRAIN = ("--train", "--weights", "tiny.pkl", "--method", "tip-adapter")


def test_what_is_made_later_is_made_once() -> None:
    made: list[int] = []
    lazy = Lazy(lambda: made.append(1) or len(made))
    assert not made
    assert (lazy.get(), lazy.get(), made) == (1, 1, [1])


@pytest.mark.parametrize("command", [PREDICT, ("--evaluate", "--weights", "tiny.pkl"), BENCHMARK, RETRAIN])
def test_a_finished_command_does_not_start_jittor(trained: Path, cli: Cli, command: tuple[str, ...]) -> None:
    assert cli(*command).status == 0
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *command], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr


def test_sizes_and_temperature_are_known_before(workplace: Path) -> None:
    encoder = load_encoder("tiny.pkl")
    before = encoder.image_size, encoder.width, encoder.logit_scale, encoder.parameters
    pixels = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3), dtype=np.uint8)
    tuned = encoder.tuned(lambda base: {"visual.proj": 2 * base["visual.proj"]})
    assert encoder._unbuilt
    feature = encoder.images(pixels)
    assert encoder._unbuilt  # encoding needs no module
    assert encoder.model.encode_image is not None
    assert not encoder._unbuilt
    assert (encoder.image_size, encoder.width, encoder.logit_scale, encoder.parameters) == before
    np.testing.assert_allclose(tuned.images(pixels), 2 * feature, rtol=1e-4)
    again = encoder.tuned(lambda base: {"visual.proj": 2 * base["visual.proj"]})
    assert (again.tuning, again.image_key()) == (tuned.tuning, tuned.image_key())


def test_weights_of_no_clip_are_refused_at_once(workplace: Path) -> None:
    state = read_state_dict("tiny.pkl")
    write_jclip(Path("w.pkl"), {key: value for key, value in state.items() if key != "ln_final.weight"})
    with pytest.raises(WeightsError, match=r"w\.pkl: these are not the weights"):
        load_encoder("w.pkl")


def test_a_missing_temperature_is_told_by_its_name(workplace: Path) -> None:
    state = read_state_dict("tiny.pkl")
    write_jclip(Path("w.pkl"), {key: value for key, value in state.items() if key != "logit_scale"})
    with pytest.raises(WeightsError, match=r"w\.pkl: .*missing logit_scale"):
        _ = load_encoder("w.pkl").logit_scale


def test_the_device_chosen_is_the_one_that_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[planning.Plan] = []
    monkeypatch.setattr(runtime, "_started", list)
    monkeypatch.setattr(runtime, "_chosen", lambda: plans)
    assert runtime.current_device() == ""
    assert runtime.choose("cpu") == runtime.choose("auto") == runtime.current_device() == "cpu"
    assert plans[0].reason == "asked for"
    monkeypatch.setattr(runtime, "_started", lambda: plans)
    with pytest.raises(UsageError, match="too late"):
        runtime.choose("cuda")
