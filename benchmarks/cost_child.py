"""A method's own training, taken step by step: a process that encoder_cost.py drives.

    python -m benchmarks.cost_child FOLDER METHOD HYPERPARAMETERS

Weights and photos are random: what a step costs does not depend on them. METHOD trains on a task of the contest's
size, and waits for a line of standard input before each step; each is answered with a line of JSON. The first step's
inputs, loss and gradient are written to FOLDER, so that others can be compared with it.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO
from unittest import mock

import numpy as np
import numpy.typing as npt

from benchmarks import ROOT
from benchmarks.turns import answers_to
from jclip_adapter.core.task import EncoderLink, FewShotTask, normalise
from jclip_adapter.methods import create
from jclip_adapter.models.clip.config import VIT_B_32, ClipConfig

NAMES = ROOT / "tests" / "fixtures" / "contest_classes_b.txt"
CLASSES, SHOTS = 374, 4
TEXT_ONLY = ClipConfig(512, 32, 1, 64, 32, 77, 49408, 512, 12)  # where photos' features are computed beforehand


class Stop(Exception):  # noqa: N818  (no error)
    """No more steps are wanted."""


def class_names(count: int) -> tuple[str, ...]:
    """The contest's names, as prompts spell them."""
    lines = NAMES.read_text("utf-8").splitlines()[:count]
    return tuple(line.split()[0].split("_", 1)[1].replace("_", " ") for line in lines)


def task_of(config: ClipConfig, classes: int = CLASSES) -> FewShotTask:
    """A task of SHOTS photos per class, with a CLIP of random weights and photos of noise.

    Args:
        config: The CLIP's sizes.
        classes: How many classes.
    """
    from jclip_adapter.models.clip.model import CLIP
    from tools.sample.initialise import initialise

    model = CLIP(config)
    initialise(model, 0)
    model.eval()
    rng = np.random.default_rng(0)
    side, names = config.image_resolution, class_names(classes)

    def pixels(rows: npt.NDArray[np.int64], _rng: object, _share: float) -> npt.NDArray[np.uint8]:
        drawn = np.random.default_rng(int(rows[0]))
        return drawn.integers(0, 256, (len(rows), side, side, 3), dtype=np.uint8)

    return FewShotTask(
        support_features=normalise(rng.standard_normal((SHOTS * classes, config.embed_dim))),
        support_labels=np.repeat(np.arange(classes), SHOTS),
        text_features=normalise(rng.standard_normal((classes, config.embed_dim))),
        class_names=names,
        encoder=EncoderLink(model, names, tuple(f"a photo of a {name}." for name in names), pixels),
    )


def drive(method: str, values: dict[str, Any], task: FewShotTask, turns: Iterator[str], out: TextIO, to: Path) -> None:
    """Fit a method, one step per turn.

    Args:
        method: Its name.
        values: Its hyper-parameters.
        task: The task.
        turns: Something for each step that is to be taken.
        out: Takes a line of JSON per step: "seconds", "loss", "peak_gb".
        to: Folder for the first step's inputs and outcome.
    """
    from jclip_adapter.methods.training import loop

    train = loop.train
    started, losses = 0.0, [0.0]

    def answer() -> None:
        """Tell of the step before, once the optimizer has moved too."""
        if started:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
            told = {"seconds": time.perf_counter() - started, "loss": losses[-1], "peak_gb": peak}
            out.write(json.dumps(told) + "\n")
            out.flush()

    def in_turns(step: Callable[[Any], loop.Step], optimizer: Any, batches: Any, **options: Any) -> Any:
        def taken(batch: Any) -> loop.Step:
            nonlocal started
            answer()
            if next(turns, None) is None:
                raise Stop
            first = not started
            vectors = optimizer.params[0].numpy() if first else None
            started = time.perf_counter()
            found = step(batch)
            losses.append(found.loss)
            if first:
                gradient = found.gradients[0].numpy()
                _write_first(to, task, batch[0], vectors=vectors, gradient=gradient, loss=found.loss)
            return found

        return train(taken, optimizer, batches, **options)

    with mock.patch.object(loop, "train", in_turns):
        try:
            create(method, **values).fit(task)
        except Stop:
            return
    raise RuntimeError(f"{method} took all its steps before it was stopped")


def _write_first(to: Path, task: FewShotTask, rows: npt.NDArray[np.int64], **arrays: Any) -> None:
    photos, labels = task.support_features[rows], task.support_labels[rows]
    np.savez(to / "first.npz", photos=photos, labels=labels, scale=task.logit_scale, **arrays)


def write_tower(task: FewShotTask, count: int, to: Path) -> None:
    """Write what another program needs to compute the same: the text tower's weights and all prompts' embeddings.

    Args:
        task: With its CLIP.
        count: Learnt vectors per prompt.
        to: Folder; tower.npz, and length.json with the positions of the longest prompt.
    """
    from jclip_adapter.models.clip.model import state_arrays
    from jclip_adapter.models.clip.tokenizer import token_ids

    assert task.encoder is not None  # noqa: S101  (for the type checker)
    state = state_arrays(task.encoder.model)
    tokens = token_ids([f"{'X ' * count}{name}." for name in task.encoder.names]).astype(np.int64)
    end = tokens.argmax(axis=1)
    kept = {key: value for key, value in state.items() if not key.startswith(("visual.", "token_", "logit_scale"))}
    np.savez(to / "tower.npz", fixed=state["token_embedding.weight"][tokens], end=end, **kept)
    (to / "length.json").write_text(str(int(end.max()) + 1), encoding="utf-8")


def main() -> None:
    """Fit the method that the arguments name."""
    out = answers_to()
    folder, method, values = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    task = task_of(VIT_B_32 if "images" in create(method).meta.tunes else TEXT_ONLY)
    if method == "coop" and not (folder / "tower.npz").exists():
        write_tower(task, create(method).hyper.as_dict()["context"], folder)
    drive(method, values, task, sys.stdin, out, folder)


if __name__ == "__main__":
    main()
