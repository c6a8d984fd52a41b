"""Measure how the encoding of prompts grows with classes × templates, and write results/prompts.csv and .md.

    python -m benchmarks.prompt_growth [--classes 125,250,500,1000] [--precision float32,bfloat16]

ViT-B/32's text tower with random weights: seconds do not depend on the values. Names are ImageNet's, templates those of
prompts/ensemble.yaml. Many prompts begin alike ("a photo of a …"): the share of tokens in a beginning that an earlier
prompt has too is what an encoder could leave out that keeps beginnings; this one computes each prompt whole.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import ROOT, reports_user_errors
from benchmarks.results import write_results
from benchmarks.speed_world import processor
from benchmarks.turns import peak_mb
from jclip_adapter.core.errors import UsageError
from jclip_adapter.data.texts.prompts import load_prompts
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.features.encoding import encode_texts
from jclip_adapter.models.clip.config import VIT_B_32
from jclip_adapter.models.clip.encoder import load_encoder
from jclip_adapter.models.clip.tokenizer import model_tokens
from jclip_adapter.storage import read_lines

RESULTS = ROOT / "results" / "prompts"
COLUMNS = ("precision", "classes", "templates", "prompts", "tokens", "shared", "seconds", "per_second", "mb")
CLASSES = (125, 250, 500, 1000)
TEMPLATES = (1, 3, 12)


@lru_cache
def class_words() -> tuple[str, ...]:
    """The first name of each of ImageNet's 1,000 classes."""
    lines = read_lines(ROOT / "prompts" / "imagenet.csv")
    return tuple(row["names"].split("; ")[0] for row in csv.DictReader(lines))


def shared(rows: Iterable[Sequence[int]]) -> float:
    """The share of tokens that lie in a beginning which an earlier row has too.

    >>> shared([[1, 2, 3], [1, 2, 4, 5]])
    0.2857142857142857
    """
    beginnings, tokens = set(), 0
    for row in rows:
        tokens += len(row)
        beginnings |= {tuple(row[:end]) for end in range(1, len(row) + 1)}
    return 1 - len(beginnings) / tokens


def measured(
    weights: str, precision: str, classes: Sequence[int], templates: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """A row for each number of classes and templates, in the order of their products."""
    encoder = load_encoder(weights, "cpu", precision=precision)
    sentences = load_prompts("ensemble").templates["default"]
    sizes = sorted(((count, each) for count in classes for each in templates), key=lambda size: size[0] * size[1])
    for count, each in tqdm(sizes, desc=precision, unit="size"):
        texts = [template.format(name) for name in class_words()[:count] for template in sentences[:each]]
        tokens = [[token for token in row if token] for row in model_tokens(texts, VIT_B_32).tolist()]
        with tempfile.TemporaryDirectory() as store:
            encode_texts(encoder, texts[: encoder.batch_size], Path(store))  # compiles
        with tempfile.TemporaryDirectory() as store:
            started = time.perf_counter()
            encode_texts(encoder, texts, Path(store))
            seconds = time.perf_counter() - started
        yield {
            "precision": precision,
            "classes": count,
            "templates": each,
            "prompts": len(texts),
            "tokens": sum(map(len, tokens)),
            "shared": f"{shared(tokens):.3f}",
            "seconds": f"{seconds:.2f}",
            "per_second": f"{len(set(texts)) / seconds:.0f}",
            "mb": f"{peak_mb():.0f}",
        }


def report(rows: Sequence[dict[str, Any]]) -> str:
    """In Markdown."""
    head = ["precision", "classes", "templates", "prompts", "tokens a prompt", "in a beginning", "s", "prompts/s", "MB"]
    cells = [
        [
            *(row[name] for name in ("precision", "classes", "templates", "prompts")),
            f"{int(row['tokens']) / int(row['prompts']):.1f}",
            f"{float(row['shared']):.0%}",
            *(row[name] for name in ("seconds", "per_second", "mb")),
        ]
        for row in rows
    ]
    return (
        f"# Prompts on {processor()}, {os.cpu_count()} cores\n\n"
        "ViT-B/32's text tower with random weights, ImageNet's names, templates of prompts/ensemble.yaml. “In a "
        "beginning”: the share of tokens in a beginning that an earlier prompt has too. MB: the most that the process "
        "had used by then. `python -m benchmarks.prompt_growth` measures this.\n\n"
        f"{markdown_table(head, cells)}\n"
    )


def _numbers(text: str) -> tuple[int, ...]:
    words = text.split(",")
    if not all(word.isdecimal() and 1 <= int(word) <= len(class_words()) for word in words):
        raise UsageError(f"'{text}': expected numbers of classes from 1 to {len(class_words())}, with commas.")
    return tuple(map(int, words))


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user's.
    """
    from tests.random_weights import write_safe

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prompt_growth", description="Measure how the encoding of prompts grows."
    )
    parser.add_argument("--classes", default=",".join(map(str, CLASSES)), help="numbers of classes")
    parser.add_argument("--precision", default="float32,bfloat16", help="float32, bfloat16 or both")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where .csv and .md are written")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        weights = write_safe(Path(folder) / "weights.safetensors", config=VIT_B_32)
        rows = [
            row
            for precision in given.precision.split(",")
            for row in measured(str(weights), precision, _numbers(given.classes), TEMPLATES)
        ]
    write_results(given.out, rows, COLUMNS, report(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
