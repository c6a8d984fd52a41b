"""Rewrite the generated sections of the READMEs and SECURITY.md: the methods' table and the measured figures.

    python -m benchmarks.readme            rewrite them
    python -m benchmarks.readme --check    change nothing; exit status 1 if they are out of date

A section stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Sequence
from statistics import fmean

from benchmarks import ROOT, told
from benchmarks.reliability import outcome
from jclip_adapter.core.errors import DataError
from jclip_adapter.evaluation.report import markdown_table
from jclip_adapter.methods import available, get
from jclip_adapter.storage import ANY, read_lines, write_text

READMES = {"en": ROOT / "README.md", "zh": ROOT / "README.zh.md"}
SECURITY = ROOT / "SECURITY.md"
_HEADER = {
    "en": ["method", "learns", "needs", "idea", "source"],
    "zh": ["方法", "学习什么", "需要什么", "思路", "出处"],
}
_NOTHING = {"en": "nothing", "zh": "无"}
_SPEED_TASKS = ("encode", "end_to_end", "text")
_SPEED_HEADER = {
    "en": ["way", "decoded photos per second", "photo files per second", "prompts per second"],
    "zh": ["方式", "每秒已解码图片", "每秒图片文件", "每秒文本"],
}
_MARK = {"en": " (transductive)", "zh": "（直推式）"}
SHOTS = "4"
_TRANSDUCTIVE = {"en": "all queries at once (transductive)", "zh": "同时给出全部测试图片（直推式）"}
# The only words of the tables' headings; names of methods and domains stay.
_CHINESE = (
    (r"\bdomain\b", "领域"),
    (r"\bphotos\b", "图片数"),
    (r"\((\d+) shots, mean of (\d+) seeds\)", r"（\1-shot，\2 个种子的均值）"),
    (r"95 % interval", "95 % 区间"),
    (r"gain in points", "提升（百分点）"),
    (r"\btotal\b", "合计"),
    (r"\| method +\|", "| 方法 |"),
    (r"over zero-shot", "超过 zero-shot"),
    (r"on the worst seed", "最差的种子"),
    (r"over jclip-adapter", "超过 jclip-adapter"),
    (r"seconds to fit", "训练秒数"),
    (r"chosen on left-out shots", "在留出样本上选定"),
    (r"\bdefaults\b", "默认值"),
)


def sections(language: str) -> dict[str, str]:
    """The generated sections by name.

    Args:
        language: "en" or "zh".

    Raises:
        DataError: one of the results is missing or holds no table.
    """
    return {
        "methods": methods_table(language),
        "sample": quoted_table("sample.md", "benchmarks.sample_accuracy", language),
        "benchmark": benchmark_table(language),
        "speed": speed_table(language),
        "encoder": quoted_table("sample-encoder.md", "benchmarks.sample_encoder", language),
        "backbones": quoted_table("backbones.md", "benchmarks.backbone_accuracy", language),
        "two-views": quoted_table("two-views.md", "benchmarks.two_views", language),
    }


def methods_table(language: str) -> str:
    """One line per method, from the methods' own metadata, which is English."""
    rows = []
    for name in available():
        meta = get(name).meta
        source = f"{meta.paper}, {meta.year}"
        if meta.arxiv:
            source += f", [arXiv:{meta.arxiv}](https://arxiv.org/abs/{meta.arxiv})"
        if meta.code:
            source += f"; [{meta.code}](https://github.com/{meta.code})"
        trains = _NOTHING[language] if meta.trains == "nothing" else meta.trains
        needs = [*meta.needs, *([_TRANSDUCTIVE[language]] if meta.transductive else [])]
        rows.append([f"`{name}`", trains, ", ".join(needs) or _NOTHING[language], meta.summary, source])
    return markdown_table(_HEADER[language], rows)


def benchmark_table(language: str) -> str:
    """Top-1 of every method at 4 shots out of results/benchmark.csv: inductive methods, then transductive ones."""
    path = ROOT / "results" / "benchmark.csv"
    cells = [row for row in csv.DictReader(read_lines(path)) if row["shots"] == SHOTS]
    if not cells:
        raise DataError(f"{path} has no cell of {SHOTS} shots.", "Run `python runner.py --benchmark` first.")
    top1: dict[str, dict[str, list[float]]] = {}
    for row in cells:
        top1.setdefault(row["method"], {}).setdefault(row["dataset"], []).append(float(row["top1"]))
    datasets = list(dict.fromkeys(row["dataset"] for row in cells))
    rows = []
    # Best first, by the first data set that has them all; transductive methods see all queries, so they stand apart.
    for name in sorted(top1, key=lambda name: (get(name).meta.transductive, -fmean(top1[name].get(datasets[0], [0])))):
        shown = f"`{name}`" + (_MARK[language] if get(name).meta.transductive else "")
        rows.append([shown, *(f"{fmean(top1[name][key]):.1f} %" if key in top1[name] else "–" for key in datasets)])
    return markdown_table([_HEADER[language][0], *datasets], rows)


def speed_table(language: str) -> str:
    """Photos and prompts per second on the CPU, each way's best batch, out of results/speed-cpu.csv."""
    path = ROOT / "results" / "speed-cpu.csv"
    rates: dict[str, dict[str, float]] = {}
    for row in csv.DictReader(read_lines(path)):
        if row["task"] in _SPEED_TASKS:
            rates.setdefault(row["way"], {}).setdefault(row["task"], 0.0)
            rates[row["way"]][row["task"]] = max(rates[row["way"]][row["task"]], float(row["per_second"]))
    rows = [
        [way, *(f"{found[task]:.1f}" if task in found else "–" for task in _SPEED_TASKS)]
        for way, found in rates.items()
    ]
    return markdown_table(_SPEED_HEADER[language], rows)


def quoted_table(name: str, program: str, language: str) -> str:
    """The table of a file in results/, and the program that writes it; its heading in the language."""
    path = ROOT / "results" / name
    lines = [line for line in read_lines(path) if line.startswith("|")]
    if not lines:
        raise DataError(f"{path} holds no table.", f"Run `python -m {program}`.")
    text = "\n".join(lines)
    for pattern, chinese in _CHINESE if language == "zh" else ():
        text = re.sub(pattern, chinese, text)
    return text


def renewed(text: str, parts: dict[str, str], name: str) -> str:
    r"""A README's text with its sections replaced.

    Args:
        text: As it stands.
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


@told
def main(argv: Sequence[str] | None = None) -> int:
    """Rewrite or check the READMEs and SECURITY.md.

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
    texts = {path: sections(language) for language, path in READMES.items()}
    for path, parts in {**texts, SECURITY: {"reliability": outcome.table()}}.items():
        old = "".join(f"{line}\n" for line in read_lines(path))
        new = renewed(old, parts, path.name)
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
