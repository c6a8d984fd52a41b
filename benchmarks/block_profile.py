"""Measure each step of a transformer block, and write results/block-profile.csv and .md.

    python -m benchmarks.block_profile [--photos 32] [--rounds 40]

A block of ViT-B/32's image tower with random weights, on the CPU by oneDNN. Steps take their turns, so each meets its
input outside of the processor's nearest caches, as in a tower. "alone" is the product without the activation or the
residual that are fused into it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors
from benchmarks.results import write_results
from benchmarks.speed_world import processor
from jclip_adapter import runtime
from jclip_adapter.core.errors import SetupError
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.models.clip.config import VIT_B_32
from jclip_adapter.runtime import jt, onednn

RESULTS = ROOT / "results" / "block-profile"
COLUMNS = ("precision", "step", "in_a_block", "photos", "ms", "gflops")
POSITIONS = VIT_B_32.grid**2 + 1
WIDTH, HIDDEN, HEADS = VIT_B_32.vision_width, VIT_B_32.vision_mlp, VIT_B_32.vision_heads

Steps = dict[str, tuple[int, float, Callable[[], Any]]]


def steps(precision: str, photos: int) -> Steps:
    """How often a block takes each step (0 for what is only compared), its products in GFLOP, and the step."""
    from jclip_adapter.models.clip import onednn_ops as ops

    rng, rows = np.random.default_rng(0), photos * POSITIONS

    def drawn(*shape: int) -> Any:
        return jt.array(0.05 * rng.standard_normal(shape, dtype=np.float32))

    def linear(wide: int, narrow: int, x: Any, **more: Any) -> Callable[[], Any]:
        packed, bias = ops.pack(drawn(wide, narrow), precision), drawn(wide)
        packed.sync()
        return lambda: ops.linear(x, packed, bias, precision, **more)

    residual, scale, shift = drawn(rows, WIDTH), drawn(WIDTH), drawn(WIDTH)
    normed, joined, hidden = (ops.cast(drawn(rows, size), precision) for size in (WIDTH, 3 * WIDTH, HIDDEN))
    for each in (residual, scale, shift, normed, joined, hidden):
        each.sync()
    one = 2e-9 * rows * WIDTH * WIDTH
    mlp = one * HIDDEN / WIDTH
    return {
        "LayerNorm": (2, 0, lambda: ops.layer_norm(residual, scale, shift, precision)),
        "queries, keys and values": (1, 3 * one, linear(3 * WIDTH, WIDTH, normed, out=precision)),
        "attention": (1, 4e-9 * rows * POSITIONS * WIDTH, lambda: ops.attention(joined, photos, HEADS)),
        "projection, residual": (1, one, linear(WIDTH, WIDTH, normed, residual=residual)),
        "projection alone": (0, one, linear(WIDTH, WIDTH, normed)),
        "MLP's first product, activation": (
            1,
            mlp,
            linear(HIDDEN, WIDTH, normed, activation=VIT_B_32.vision_activation, out=precision),
        ),
        "MLP's first product alone": (0, mlp, linear(HIDDEN, WIDTH, normed, out=precision)),
        "MLP's second product, residual": (1, mlp, linear(WIDTH, HIDDEN, hidden, residual=residual)),
        "MLP's second product alone": (0, mlp, linear(WIDTH, HIDDEN, hidden)),
    }


def measured(precision: str, photos: int, rounds: int) -> list[dict[str, Any]]:
    """A row per step: the median of its seconds."""
    own = steps(precision, photos)
    seconds: dict[str, list[float]] = {name: [] for name in own}
    for _, _, do in own.values():
        do().sync()  # compiles
    for _ in tqdm(range(rounds), desc=precision, unit="round", disable=None):
        for name, (_, _, do) in own.items():
            started = time.perf_counter()
            do().sync()
            seconds[name].append(time.perf_counter() - started)
    return [
        {
            "precision": precision,
            "step": name,
            "in_a_block": times,
            "photos": photos,
            "ms": f"{1e3 * median(seconds[name]):.3f}",
            "gflops": f"{gflop / median(seconds[name]):.0f}" if gflop else "",
        }
        for name, (times, gflop, _) in own.items()
    ]


def report(rows: Sequence[dict[str, Any]]) -> str:
    """In Markdown, with each step's share of a block."""
    parts = []
    for precision in dict.fromkeys(row["precision"] for row in rows):
        own = [row for row in rows if row["precision"] == precision]
        whole = sum(float(row["ms"]) * int(row["in_a_block"]) for row in own)
        cells = [
            [
                row["step"],
                row["in_a_block"] or "–",
                row["ms"],
                f"{float(row['ms']) * int(row['in_a_block']) / whole:.0%}" if int(row["in_a_block"]) else "–",
                row["gflops"] or "–",
            ]
            for row in own
        ]
        head = ["step", "in a block", "ms", "share of a block", "GFLOP/s"]
        parts.append(f"## {precision}\n\n{whole:.1f} ms a block.\n\n{markdown_table(head, cells)}\n")
    return (
        f"# A block of ViT-B/32 on {processor()}, {os.cpu_count()} cores\n\n"
        f"The image tower's, for {rows[0]['photos']} photos, random weights, medians. “Alone”: without what is fused "
        "into the product. `python -m benchmarks.block_profile` measures this.\n\n" + "\n".join(parts)
    )


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user's.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.block_profile", description="Measure each step of a transformer block."
    )
    parser.add_argument("--photos", type=int, default=32, help="photos of a pass (32)")
    parser.add_argument("--rounds", type=int, default=40, help="measurements of each step (40)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where .csv and .md are written")
    given = parser.parse_args(argv)
    runtime.start("cpu")
    if not runtime.has_fast_matmul():
        raise SetupError("oneDNN is missing, by which these steps are computed.", "pip install onednn-cpu-gomp.")
    precisions = ["float32", *(["bfloat16"] if onednn.has_bfloat16() else [])]
    rows = [row for each in precisions for row in measured(each, given.photos, given.rounds)]
    write_results(given.out, rows, COLUMNS, report(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
