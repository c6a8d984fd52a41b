"""Rewrite the generated sections of the documents: tables of methods and options, and the measured figures.

    python -m benchmarks.readme            rewrite them
    python -m benchmarks.readme --check    change nothing; exit status 1 if they are out of date

A section stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

from benchmarks import (
    ROOT,
    calibration,
    estimate_coverage,
    options_table,
    reject_scores,
    reports_user_errors,
    scale_plan,
    scale_simulation,
    search_speed,
    seeds,
    streaming_prediction,
)
from benchmarks.reliability import outcome
from jclip_adapter.core.errors import DataError
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.methods import NOT_INCLUDED, available, get
from jclip_adapter.models.weights.published import published_models
from jclip_adapter.storage import ANY, read_lines, write_text

SHOTS = "4"
MAIN = "open_domain374"  # the data set of the README's column "top-1"
_SOURCES = "docs/methods.md#papers-and-code"
_METHODS_HEADER = {"en": ["method", "idea", "top-1", "source"], "zh": ["方法", "思路（英文）", "top-1", "出处"]}
_HEADS_HEADER = {"en": ["classifier", "reads class names", "top-1"], "zh": ["分类器", "读取类别名", "top-1"]}
_HEADS_TEXT = {
    "en": "Top-1 with {shots} photos per class on {classes} classes and {queries} test photos:",
    "zh": "{classes} 个类别、每类 {shots} 张图片、{queries} 张测试图片上的 top-1：",
}
_YES, _NO = {"en": "yes", "zh": "是"}, {"en": "no", "zh": "否"}
_SPEED_LINE = {
    "en": (
        "Two CPU cores encode {ours_float32} photos per second with ViT-B/32 in float32 and {ours_bfloat16} in "
        "bfloat16; PyTorch {torch_float32} and {torch_bfloat16} ([speed](docs/speed.md))."
    ),
    "zh": (
        "两个 CPU 核心用 ViT-B/32 每秒编码 {ours_float32} 张图片（float32）或 {ours_bfloat16} 张（bfloat16）；"
        "PyTorch 为 {torch_float32} 和 {torch_bfloat16} 张（[速度](docs/speed.md)，英文）。"
    ),
}
_SPEED_TASKS = ("encode", "end_to_end", "text")
_SPEED_HEADER = ("implementation", "decoded photos per second", "photo files per second", "prompts per second")
Sections = Mapping[str, Callable[[], str]]


def documents() -> dict[Path, Sections]:
    """The documents with generated sections, and per section the function that writes it."""
    readmes, flags = (
        {language: {name: partial(table, language) for name, table in tables.items()} for language in ("en", "zh")}
        for tables in (
            {"methods": methods_table, "speed": speed_line},
            {"commands": options_table.commands_table, "options": options_table.options_table},
        )
    )
    found: dict[str, Sections] = {
        "README.md": readmes["en"],
        "README.zh.md": readmes["zh"],
        "SECURITY.md": {"reliability": outcome.table},
        "docs/backbones.md": {
            "backbones": partial(quoted_table, "backbones.md", "benchmarks.backbone_accuracy"),
            "two-views": partial(quoted_table, "two-views.md", "benchmarks.two_views"),
        },
        "docs/contest.md": {"contest": partial(quoted_table, "contest.md", "benchmarks.contest_table")},
        "docs/flags.md": flags["en"],
        "docs/flags.zh.md": flags["zh"],
        "docs/guide.zh.md": {"usual-heads": partial(usual_heads_table, "zh")},
        "docs/methods.md": {
            "usual-heads": partial(usual_heads_table, "en"),
            "benchmark": benchmark_table,
            "sources": sources_table,
            "not-included": not_included,
        },
        "docs/models.md": {"models": models_table},
        "docs/sample.md": {"sample": partial(quoted_table, "sample.md", "benchmarks.sample_accuracy")},
        "docs/scale.md": {
            "scale-prediction": streaming_prediction.saved_table,
            "scale-rates": scale_plan.rates_table,
            "scale-work": scale_plan.work_table,
            "scale-storage": scale_plan.storage_table,
            "scale-sizes": lambda: scale_simulation.excess_table(scale_simulation.saved_rows()),
            "scale-hours": lambda: scale_simulation.hours_table(scale_simulation.saved_rows()),
            "scale-memory": scale_plan.memory_table,
            "scale-limits": scale_plan.limits_table,
            "scale-search": search_speed.saved_table,
            "scale-worth": scale_plan.index_worth,
        },
        "docs/seeds.md": {"seeds": seeds.page},
        "docs/sound.md": {"sound-speed": sound_speed_table},
        "docs/speed.md": {
            "speed": speed_table,
            "prompts": partial(quoted_table, "prompts.md", "benchmarks.prompt_growth"),
        },
        "docs/training-through-clip.md": {
            "encoder": partial(quoted_table, "sample-encoder.md", "benchmarks.sample_encoder")
        },
        "docs/trust.md": {
            "calibration": calibration.quoted,
            "estimate": estimate_coverage.quoted,
            "reject-scores": reject_scores.quoted,
        },
    }
    return {ROOT / name: sections for name, sections in found.items()}


def usual_heads_table(language: str) -> str:
    """The usual few-shot heads beside methods that read class names, out of results/usual-heads.csv.

    Args:
        language: "en" or "zh".
    """
    rows = list(csv.DictReader(read_lines(ROOT / "results" / "usual-heads.csv")))
    text = _HEADS_TEXT[language].format(**rows[0])
    reads = {"without class names": _NO[language], "with class names": _YES[language]}
    names = [f"`{row['name']}`" if row["name"] in available() else row["name"] for row in rows]
    cells = [[name, reads[row["kind"]], f"{float(row['top1']):.1f} %"] for name, row in zip(names, rows, strict=True)]
    return f"{text}\n\n{markdown_table(_HEADS_HEADER[language], cells)}"


def benchmark_top1() -> dict[str, dict[str, float]]:
    """Top-1 in percent at 4 shots by method and data set, out of results/benchmark.csv.

    Raises:
        DataError: it has no cell of 4 shots.
    """
    path = ROOT / "results" / "benchmark.csv"
    cells: dict[tuple[str, str], list[float]] = {}
    for row in csv.DictReader(read_lines(path)):
        if row["shots"] == SHOTS:
            cells.setdefault((row["method"], row["dataset"]), []).append(float(row["top1"]))
    if not cells:
        raise DataError(f"{path} has no cell of {SHOTS} shots.", "Run `python runner.py --benchmark` first.")
    found: dict[str, dict[str, float]] = {}
    for (method, dataset), values in cells.items():
        found.setdefault(method, {})[dataset] = fmean(values)
    return found


def _ranked(names: Sequence[str], top1: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Inductive methods by their top-1 on the main data set, best first; then transductive ones; then the others."""

    def place(name: str) -> tuple[bool, bool, float, str]:
        measured = top1.get(name, {})
        return MAIN not in measured, get(name).meta.transductive, -measured.get(MAIN, 0.0), name

    return sorted(names, key=place)


def _name(method: str) -> str:
    return f"`{method}`" + ("\\*" if get(method).meta.transductive else "")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} %"


def methods_table(language: str) -> str:
    """Name, idea, top-1 and one link per measured method; the ideas are the methods' own, in English.

    Args:
        language: "en" or "zh".
    """
    top1 = benchmark_top1()
    rows = []
    for name in _ranked([name for name in available() if MAIN in top1.get(name, {})], top1):
        meta = get(name).meta
        link = f"[{meta.year}]({_SOURCES})"
        if meta.arxiv:
            link = f"[{meta.arxiv}](https://arxiv.org/abs/{meta.arxiv})"
        rows.append([_name(name), meta.summary, _percent(top1[name][MAIN]), link])
    return markdown_table(_METHODS_HEADER[language], rows)


def models_table() -> str:
    """The published CLIPs of published.csv; each figure and licence is a link to its source."""
    header = ("--weights", "millions of parameters", "photo size", "ImageNet", "licence", "good for", "in open_clip")
    rows = []
    for model in published_models():
        figure = f"[{model.imagenet} %]({model.figures})" if model.imagenet else f"[–]({model.figures})"
        licence = f"[{model.licence}]({model.licence_source})"
        alias = f"`{model.open_clip}`" if model.open_clip else "–"
        size = (f"`{model.weights}`", model.parameters_millions, model.image_size)
        rows.append([*size, figure, licence, model.good_for, alias])
    return markdown_table(header, rows)


def sources_table() -> str:
    """What each method trains and needs, its paper and the authors' code."""
    rows = []
    for name in available():
        meta = get(name).meta
        source = f"{meta.paper}, {meta.year}"
        if meta.arxiv:
            source += f", [arXiv:{meta.arxiv}](https://arxiv.org/abs/{meta.arxiv})"
        if meta.code:
            source += f"; [{meta.code}](https://github.com/{meta.code})"
        rows.append([_name(name), meta.trains, ", ".join(meta.needs) or "nothing", source])
    return markdown_table(["method", "trains", "needs", "source"], rows)


def not_included() -> str:
    """The methods of the project's sources that are not here, and why."""
    return "\n".join(f"- {reason}" for reason in NOT_INCLUDED.values())


def benchmark_table() -> str:
    """Top-1 of every measured method at 4 shots on every data set."""
    top1 = benchmark_top1()
    datasets = list(dict.fromkeys(dataset for found in top1.values() for dataset in found))
    rows = [[_name(name), *(_percent(top1[name].get(key)) for key in datasets)] for name in _ranked(list(top1), top1)]
    return markdown_table(["method", *datasets], rows)


def sound_speed_table() -> str:
    """Sounds per second, out of results/sound-speed.csv."""
    rows = list(csv.DictReader(read_lines(ROOT / "results" / "sound-speed.csv")))
    cells = [[row["mode"], row["way"], row["sounds_per_second"], row["ratio"]] for row in rows]
    return markdown_table(["mode", "implementation", "sounds per second", "ratio to PyTorch"], cells)


def _speeds() -> dict[str, dict[str, float]]:
    """Things per second by implementation and task, with each one's best batch, out of results/speed-cpu.csv."""
    rates: dict[str, dict[str, float]] = {}
    for row in csv.DictReader(read_lines(ROOT / "results" / "speed-cpu.csv")):
        if row["task"] in _SPEED_TASKS:
            found = rates.setdefault(row["way"], {})
            found[row["task"]] = max(found.get(row["task"], 0.0), float(row["per_second"]))
    return rates


def speed_table() -> str:
    """Photos and prompts per second on the CPU."""
    rows = [
        [way, *(f"{found[task]:.1f}" if task in found else "–" for task in _SPEED_TASKS)]
        for way, found in _speeds().items()
    ]
    return markdown_table(_SPEED_HEADER, rows)


def speed_line(language: str) -> str:
    """Photos per second beside PyTorch's, in a sentence.

    Args:
        language: "en" or "zh".
    """
    rates = {way: found["encode"] for way, found in _speeds().items()}
    best = {
        f"{who}{precision}": max(rate for way, rate in rates.items() if way.startswith(start) and precision in way)
        for who, start in (("ours_", "ours"), ("torch_", "PyTorch"))
        for precision in ("float32", "bfloat16")
    }
    return _SPEED_LINE[language].format(**{name: f"{rate:.0f}" for name, rate in best.items()})


def quoted_table(name: str, program: str) -> str:
    """The table of a file in results/.

    Args:
        name: The file's name.
        program: The module that writes it, for the error.

    Raises:
        DataError: the file holds no table.
    """
    path = ROOT / "results" / name
    lines = [line for line in read_lines(path) if line.startswith("|")]
    if not lines:
        raise DataError(f"{path} holds no table.", f"Run `python -m {program}`.")
    return "\n".join(lines)


def renewed(text: str, parts: Mapping[str, str], name: str) -> str:
    r"""A document's text with its sections replaced.

    Args:
        text: The document's present text.
        parts: Sections by name.
        name: What to call the file in an error.

    Returns:
        The text with each section's lines between its markers.

    Raises:
        DataError: a section's markers do not stand exactly once, in order.

    >>> renewed("<!-- a:begin -->old<!-- a:end -->", {"a": "new"}, "x")
    '<!-- a:begin -->\nnew\n<!-- a:end -->'
    """
    for key, part in parts.items():
        begin, end = f"<!-- {key}:begin -->", f"<!-- {key}:end -->"
        if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
            raise DataError(f"{name} lacks the markers {begin} and {end}.", "Each has to stand once, in this order.")
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{part}\n{end}{rest.split(end)[1]}"
    return text


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Rewrite or check the documents.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done or up to date, 1 out of date, 2 something is missing.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.readme", description="Rewrite the generated sections of the documents."
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 if they are out of date")
    check = parser.parse_args(argv).check
    stale = []
    for path, sections in documents().items():
        old = "".join(f"{line}\n" for line in read_lines(path))
        new = renewed(old, {name: section() for name, section in sections.items()}, path.name)
        if new != old:
            stale.append(path.name)
            if not check:
                write_text(path, new, ANY)
    if stale and check:
        print(f"out of date: {', '.join(stale)}; run `python -m benchmarks.readme`")
        return 1
    print(f"rewritten: {', '.join(stale)}" if stale else "up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
