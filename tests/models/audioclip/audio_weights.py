"""AudioCLIP weights for tests: the golden file's, and random ones in the published file format."""

from __future__ import annotations

import pickle  # noqa: TID251  (writes numbers of the format that the package reads without it)
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.reliability.hostile_files import storage, tensor, text
from jclip_adapter.models.audioclip.shapes import ATTENTION_KERNELS, blackman_harris
from jclip_adapter.models.clip.config import ClipConfig
from tests.golden_files import Golden
from tests.random_weights import TINY, random_state

State = dict[str, npt.NDArray[np.float32]]


def audio_state(golden: Golden, part: str, window: int) -> State:
    """The audio tower that a part of the golden recipe draws, by AudioCLIP's names without prefix."""
    drawn = {name: value for name, value in golden.state_dict(part).items() if value.size}  # fbsp.bias is empty
    return {**drawn, "window": blackman_harris(window).astype(np.float32)}


def audioclip_state(golden: Golden) -> State:
    """The golden file's small AudioCLIP, by the names of the published file."""
    return {**golden.state_dict("L"), "audio.window": blackman_harris(201).astype(np.float32)}


class Sizes(NamedTuple):
    """Of an AudioCLIP: CLIP's, channels of the stem and the features, and blocks, channels and group width by stage."""

    clip: ClipConfig
    stem: int
    width: int
    stages: tuple[tuple[int, int, int, int], ...]


SMALL = Sizes(TINY, 8, 64, ((2, 16, 16, 4), (1, 16, 16, 4), (1, 32, 16, 4), (1, 64, 16, 4)))
FULL = Sizes(  # of the published weights
    ClipConfig(1024, 224, (3, 4, 6, 3), 64, 0, 77, 49408, 512, 12),
    64,
    1024,
    ((3, 256, 128, 4), (4, 512, 256, 8), (6, 1024, 512, 16), (3, 2048, 1024, 32)),
)


def random_audioclip(seed: int = 0, sizes: Sizes = SMALL) -> State:
    """An AudioCLIP with random weights; by default a tiny one beside a vision transformer."""
    rng = np.random.default_rng(seed)
    clip = random_state(sizes.clip, seed) if sizes.clip.is_vit else _resnet_state(sizes.clip, rng)
    channels, last = sizes.stem, sizes.stages[-1][1]
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (channels, 3, 7, 7)}
    shapes |= {"fc.weight": (sizes.width, last), "fc.bias": (sizes.width,)}
    norms = {"bn1": channels}
    for stage, (blocks, wide, inner, within) in enumerate(sizes.stages, 1):
        shapes |= _attention(f"att{stage}", channels, wide, ATTENTION_KERNELS[stage - 1], norms)
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            shapes |= {f"{name}.conv1.weight": (inner, channels, 1, 1), f"{name}.conv2.weight": (inner, within, 3, 3)}
            shapes |= {f"{name}.conv3.weight": (wide, inner, 1, 1)}
            norms |= {f"{name}.bn1": inner, f"{name}.bn2": inner, f"{name}.bn3": wide}
            if block == 0:
                shapes[f"{name}.downsample.0.weight"] = (wide, channels, 1, 1)
                norms[f"{name}.downsample.1"] = wide
            channels = wide
    shapes |= _attention("att5", last, last, ATTENTION_KERNELS[4], norms)
    audio = {name: rng.normal(0, np.prod(shape[1:]) ** -0.5, shape) for name, shape in shapes.items()}
    for name, count in norms.items():
        audio |= {f"{name}.weight": np.ones(count), f"{name}.bias": np.zeros(count)}
        audio |= {f"{name}.running_mean": np.zeros(count), f"{name}.running_var": np.ones(count)}
        audio[f"{name}.num_batches_tracked"] = np.zeros((), np.float32)
    audio["bn1.running_mean"] += rng.normal(0, 1, sizes.stem)
    audio |= {
        "fbsp.m": np.zeros(1025),
        "fbsp.fb": np.ones(1025),
        "fbsp.fc": np.arange(1025.0),
        "fbsp.bias": np.zeros(0),
    }
    audio["window"] = blackman_harris(1654)
    scales = {"logit_scale": np.log(200), "logit_scale_ai": np.log(50), "logit_scale_at": np.log(0.5)}
    state = {**clip, **{f"audio.{name}": value for name, value in audio.items()}, **scales}
    return {name: np.asarray(value, np.float32) for name, value in state.items()}


def _resnet_state(config: ClipConfig, rng: np.random.Generator) -> State:
    from jclip_adapter.models.clip.model import CLIP, state_arrays

    def drawn(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        if len(shape) < 2:
            return np.full(shape, float(name.endswith((".weight", "running_var"))), np.float32)
        return (np.prod(shape[1:]) ** -0.5 * rng.standard_normal(shape, np.float32)).astype(np.float32)

    return {name: drawn(name, value.shape) for name, value in state_arrays(CLIP(config)).items()}


def _attention(
    name: str, channels: int, wide: int, kernel: tuple[int, int], norms: dict[str, int]
) -> dict[str, tuple[int, ...]]:
    norms[f"{name}.bn"] = wide
    return {
        f"{name}.conv_depth.weight": (channels, 1, *kernel),
        f"{name}.conv_depth.bias": (channels,),
        f"{name}.conv_point.weight": (wide, channels, 1, 1),
        f"{name}.conv_point.bias": (wide,),
    }


def write_torch(path: Path, state: State) -> Path:
    """Write as `torch.save` does: a zip archive of a pickled dict and its storages."""

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(pickle.dumps(value, 2)[2:-1] for value in values) + b"t"

    root = b"\x80\x02}("
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, value) in enumerate(state.items()):
            strides = tuple(step // value.itemsize for step in value.strides)
            store = storage(value.size, key=str(number))
            root += text(name) + tensor(store, shape=numbers(value.shape), strides=numbers(strides))
            archive.writestr(f"archive/data/{number}", np.ascontiguousarray(value).tobytes())
        archive.writestr("archive/data.pkl", root + b"u.")
        archive.writestr("archive/version", b"3\n")
    return path
