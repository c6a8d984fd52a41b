"""--dry-run: how a data set is read, without encoding photos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from jclip_adapter.cli.app import Invocation
from jclip_adapter.cli.settings import Settings
from jclip_adapter.core.choices import ALL_SHOTS
from jclip_adapter.core.console import print_result
from jclip_adapter.core.problems import counted
from jclip_adapter.data.sets import ImageSet, find_labels
from jclip_adapter.data.sets.support import draw_unchecked
from jclip_adapter.data.texts.class_names import name_classes
from jclip_adapter.data.texts.prompts import PromptSet, load_prompts
from jclip_adapter.evaluation.report import markdown_table

from .setup import draw_of, open_data

_PROMPTS = 5  # classes with shown prompts


def describe(settings: Settings, shots: Sequence[int]) -> str:
    """Describe how a data set is read: layout, classes, photos per class and split, shots, and some prompts.

    Photos are not opened.

    Args:
        settings: The settings.
        shots: Shot counts.

    Returns:
        Lines of text.

    Raises:
        AdapterError: as for a command that uses the data.
    """
    images = open_data(settings)
    prompts, warnings = name_classes(load_prompts(settings.prompts_or_default), images, settings.class_names)
    lines = [
        f"data: {images.source}",
        f"read as: {images.reading}",
        *(f"note: {note}" for note in (*images.notes, *warnings)),
        f"classes: {len(images.classes)}",
        f"training {images.kind}s: {len(images.train)}",
        f"test {images.kind}s: {len(images.test)}",
    ]
    draws = {count: _shots(settings, images, count) for count in shots}
    for count, per_class in draws.items():
        least, most = min(per_class.values(), default=0), max(per_class.values(), default=0)
        asked = "all" if count == ALL_SHOTS else str(count)
        each = f"{least} to {most}" if least < most else str(most)
        lines.append(f"shots: {asked} asked, {counted(sum(per_class.values()), images.kind)} in all, {each} per class")
    lines += ["", _table(images, draws), "", *_texts(prompts, images)]
    return "".join(f"{line}\n" for line in lines)


def _shots(settings: Settings, images: ImageSet, count: int) -> dict[int, int]:
    """Number of shots by class index."""
    support = draw_unchecked(images, replace(draw_of(settings), shots=count))
    counts = Counter(photo.label for photo in support)
    return {number: counts[number] for number in range(len(images.classes))}


def _table(images: ImageSet, counted: dict[int, dict[int, int]]) -> str:
    """Photos and shots per class; test photos where their classes are known."""
    answers = Counter(find_labels(images).values())
    titles = ["id", "class", f"training {images.kind}s"]
    titles += [f"test {images.kind}s"] if answers else []
    titles += [f"{'all' if count == ALL_SHOTS else count} shots" for count in counted]
    rows = []
    for number, info in enumerate(images.classes):
        tests = [answers[number]] if answers else []
        shots = [per_class[number] for per_class in counted.values()]
        rows.append([info.id, info.name, len(images.train_by_class[number]), *tests, *shots])
    return markdown_table(titles, rows)


def _texts(prompts: PromptSet, images: ImageSet) -> list[str]:
    lines = []
    for info in images.classes[:_PROMPTS]:
        texts = prompts.texts(info.name, info.domain)
        more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
        lines.append(f"prompt of {info.name}: {texts[0]}{more}")
    return lines


def run(invocation: Invocation) -> None:
    """Print how the data set is read."""
    settings = invocation.settings
    print_result(describe(settings, settings.shot_counts or (settings.shots,)), end="")
