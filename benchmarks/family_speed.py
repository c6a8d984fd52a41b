"""Measure the image towers of CLIP's relatives beside ViT-B/32's and PyTorch's; writes results/family-speed.{csv,md}.

    python -m benchmarks.family_speed [--torch PYTHON] [--rounds 5] [--count 32]

Image towers have their published shapes and random weights; text towers are those of tests/golden/models. PyTorch's
way is open_clip's and transformers' own code, reading what `--convert` writes. Ways take their turns; before anything
is timed, all encode the same pixels, and must agree.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors, speed_world
from benchmarks.speed import ALIKE
from benchmarks.turns import Runner, has_module, stopped
from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.evaluation.report import csv_text, markdown_table
from jclip_adapter.models.clip.config import ClipConfig
from jclip_adapter.models.clip.encoder import load_encoder
from jclip_adapter.models.clip.shapes import shapes_of
from jclip_adapter.models.weights.confined import write_folder
from jclip_adapter.models.weights.origin import Loaded, Origin
from jclip_adapter.storage import ANY, write_json, write_text

RESULTS = ROOT / "results"
GOLDEN = ROOT / "tests" / "golden" / "models"
COLUMNS = ("model", "precision", "way", "photos_per_second", "gflops", "share", "of_vit_b_32", "of_ours", "rounds")
PRECISIONS = ("float32", "bfloat16")
_BASE = {"vision_layers": 12, "vision_width": 768, "vision_heads": 12, "vision_mlp": 3072}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT-B/32": ("oc_quick", {**_BASE, "image_resolution": 224, "vision_patch_size": 32, "embed_dim": 512}),
    "ViT-B/16": ("oc_gelu", {**_BASE, "image_resolution": 224, "vision_patch_size": 16, "embed_dim": 512}),
    "Chinese-CLIP ViT-B/16": (
        "chinese_clip",
        {**_BASE, "image_resolution": 224, "vision_patch_size": 16, "embed_dim": 512},
    ),
    "SigLIP B/16": ("siglip", {**_BASE, "image_resolution": 224, "vision_patch_size": 16, "embed_dim": 768}),
    "SigLIP 2 B/32": ("siglip2", {**_BASE, "image_resolution": 256, "vision_patch_size": 32, "embed_dim": 768}),
    "PE-Core B/16": (
        "pe_core",
        {
            **_BASE,
            "image_resolution": 224,
            "vision_patch_size": 16,
            "embed_dim": 1024,
            "vision_rotary": 14,
            "vision_pool_heads": 8,
        },
    ),
}
"""The folder with a model's family and text tower, and the published shape of its image tower."""


def gflop(config: ClipConfig) -> float:
    """The products that a photo's feature needs in the image tower; of the last block, the class token alone."""
    patches, width, hidden = config.grid**2, config.vision_width, config.vision_mlp
    tokens = patches + ("visual.class_embedding" in config.parts)
    block = 2 * tokens * (4 * width**2 + 2 * width * hidden) + 4 * tokens**2 * width
    one = 2 * tokens * 2 * width**2 + 2 * (2 * width**2 + 2 * width * hidden) + 4 * tokens * width
    last = one if config.vision_pool == "token" else block + (one - 2 * width**2) * (config.vision_pool == "attention")
    return (
        (int(str(config.vision_layers)) - 1) * block + last + 2 * patches * 3 * config.vision_patch_size**2 * width
    ) / 1e9


def configurations() -> dict[str, ClipConfig]:
    """The models by name."""
    return {
        name: dataclasses.replace(load_encoder(str(GOLDEN / folder), "cpu").source.config, **shape)
        for name, (folder, shape) in SHAPES.items()
    }


def random_weights(config: ClipConfig) -> dict[str, npt.NDArray[np.float32]]:
    """Weights of a model's shapes, with numbers that neither vanish nor explode."""
    rng, state = np.random.default_rng(0), {}
    for name, shape in shapes_of(config).items():
        if name.startswith("logit_"):
            state[name] = np.array(2.0, np.float32)
            continue
        drawn = rng.standard_normal(shape).astype(np.float32)
        is_norm = name.split(".")[-2].startswith("ln_") if "." in name else False
        scale = 0.5 / np.sqrt(shape[-1]) if len(shape) > 1 else 0.1
        state[name] = (1 + 0.1 * drawn if is_norm and name.endswith("weight") else scale * drawn).astype(np.float32)
    return state


def write(folder: Path, configs: Mapping[str, ClipConfig]) -> dict[str, Path]:
    """Write each model as `--convert` does; its folder by name."""
    folders = {}
    for number, (name, config) in enumerate(tqdm(configs.items(), desc="writing weights", unit="model")):
        folders[name] = folder / str(number)
        source = GOLDEN / SHAPES[name][0] / "weights"
        write_folder(Loaded(source, "0" * 64, random_weights(config), Origin("own")), config, folders[name])
        pixels = {"side": config.image_resolution, "mean": config.pixels.mean, "std": config.pixels.std}
        write_json(folders[name] / "pixels.json", pixels, ANY)
    return folders


def ways(folder: Path, python: str) -> Iterator[tuple[Runner, str, str]]:
    """All ways of computing a model, with their precision and library."""
    for precision in PRECISIONS:
        command = [sys.executable, "-m", "benchmarks.speed_ours", precision, str(folder), "cpu"]
        yield Runner("ours", command), precision, ""
        for library, file in (("open_clip", "open_clip_config.json"), ("transformers", "config.json")):
            if python and (folder / file).is_file() and has_module(python, library):
                script = str(Path(__file__).with_name("torch_family.py"))
                yield (
                    Runner(f"PyTorch, {library}", [python, script, library, str(folder), precision]),
                    precision,
                    library,
                )


def measure(name: str, config: ClipConfig, folder: Path, python: str, rounds: int, count: int) -> list[dict[str, Any]]:
    """A row per way of computing a model, with the rate of each round.

    Raises:
        DataError: a way computes something else than ours in float32.
    """
    asked = list(ways(folder, python))
    with stopped([runner for runner, _, _ in asked]):
        wanted = None
        for runner, precision, _ in asked:
            rows = np.array(runner.ask({"task": "images"})["images"])
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            wanted = rows if wanted is None else wanted
            least = float((rows * wanted).sum(axis=1).min())
            if not least >= ALIKE[precision]:
                raise DataError(f"{name}, {runner.what}, {precision}: features differ, a cosine of {least:.6f}.")
        found: list[list[float]] = [[] for _ in asked]
        products: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
        for _ in tqdm(range(1 + rounds), desc=name, unit="round"):
            for (runner, precision, library), each in zip(asked, found, strict=True):
                if not library:
                    answer = runner.ask({"task": "product", "count": 20, "batch": 0})
                    products[precision].append(answer["count"] / answer["seconds"])
                each.append(count / runner.ask({"task": "encode", "count": count, "batch": 0})["seconds"])
    return [
        {
            "model": name,
            "precision": precision,
            "way": runner.what,
            "rates": each[1:],
            "products": products[precision][1:],
        }
        | {"gflop": gflop(config)}
        for (runner, precision, _), each in zip(asked, found, strict=True)
    ]


def table(measured: Sequence[Mapping[str, Any]], rounds: int) -> list[dict[str, Any]]:
    """Rows of COLUMNS; ratios are medians of those within a round."""
    rows: list[dict[str, Any]] = []
    shares: dict[tuple[str, str], float] = {}
    for one in measured:
        rates, precision = one["rates"], one["precision"]
        ours = next(x for x in measured if x["model"] == one["model"] and x["precision"] == precision)
        share = median(one["gflop"] * rate / product for rate, product in zip(rates, one["products"], strict=True))
        first = shares.setdefault((precision, one["way"]), share)
        rows.append(
            {key: one[key] for key in ("model", "precision", "way")}
            | {"photos_per_second": f"{median(rates):.2f}", "gflops": f"{one['gflop'] * median(rates):.1f}"}
            | {"share": f"{share:.3f}", "of_vit_b_32": f"{share / first:.2f}", "rounds": rounds}
            | {"of_ours": f"{median(b / a for a, b in zip(ours['rates'], rates, strict=True)):.2f}"}
        )
    return rows


def report(rows: Sequence[Mapping[str, Any]], count: int) -> str:
    """The rows in words and a table."""
    head = ["model", "precision", "way", "photos per second", "GFLOP per second", "of the matrix rate", "of ViT-B/32's"]
    cells = [[row[key] for key in COLUMNS[:-1]] for row in rows]
    return (
        f"# Image towers on {speed_world.processor()}, {os.cpu_count()} cores\n\n"
        f"Published shapes, random weights. Ways took their turns; rates are medians of {rows[0]['rounds']} "
        f"measurements of {count} decoded photos, ratios medians of those within a round. GFLOP are those of the "
        "products that a photo's feature needs. The matrix rate is that of our own product of 2048 by 2048. "
        "`python -m benchmarks.family_speed` measures this.\n\n"
        f"{markdown_table([*head, 'of ours'], cells)}\n"
    )


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a user's mistake.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.family_speed", description="Measure image towers.")
    parser.add_argument(
        "--torch", default="", metavar="PYTHON", help="interpreter with torch, and open_clip or transformers (none)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each, beside the first (5)")
    parser.add_argument("--count", type=int, default=32, help="photos per measurement (32)")
    options = parser.parse_args(argv)
    libraries = ("open_clip", "transformers")
    if options.torch and not any(has_module(options.torch, library) for library in libraries):
        raise UsageError(f"--torch {options.torch} cannot import open_clip or transformers.", "Install one there.")
    if options.rounds < 1 or options.count < 1:
        raise UsageError("--rounds and --count are at least 1.")
    configs, measured = configurations(), []
    with tempfile.TemporaryDirectory() as name:
        for model, folder in write(Path(name), configs).items():
            measured += measure(model, configs[model], folder, options.torch, options.rounds, options.count)
    rows = table(measured, options.rounds)
    write_text(RESULTS / "family-speed.csv", csv_text(rows, COLUMNS), ANY)
    write_text(RESULTS / "family-speed.md", report(rows, options.count), ANY)
    return 0


if __name__ == "__main__":
    sys.exit(main())
