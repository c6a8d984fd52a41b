"""--benchmark --protocol imagenet-esc: photos with the help of sounds, and the other way round."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter import runtime
from jclip_adapter.cli.settings import Settings
from jclip_adapter.core.choices import ALL_SHOTS, IMAGENET_ESC
from jclip_adapter.core.console import doing
from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.core.task import Array
from jclip_adapter.data.photos.reading import Reading
from jclip_adapter.data.sets import (
    ClassInfo,
    ImageSet,
    Photo,
    find_labels,
    load_dataset,
    sample_support,
    with_classes,
)
from jclip_adapter.data.sets.model import labels_of, paths_of
from jclip_adapter.data.sets.names import loose
from jclip_adapter.data.texts.imagenet_esc import SIZES, benchmark_classes
from jclip_adapter.evaluation.imagenet_esc import ITERATIONS, SHOTS, Plan, run_protocol
from jclip_adapter.features.encoding import encode_photos, encode_texts
from jclip_adapter.features.imagenet_esc import FOLDS, EscFeatures, esc_features, read_esc_file
from jclip_adapter.features.sounds import encode_in_batches
from jclip_adapter.models.audioclip.encoder import AudioClip
from jclip_adapter.models.base import ImageEncoder

from .effects import refuse_idle
from .setup import open_data, read_audioclip, white_level

Part = tuple[Array, npt.NDArray[np.int64]]
_ON_FILES = frozenset(["protocol", "features", "shots", "seed", "out", "set", "device"])
_ON_DATA = _ON_FILES - {"features"} | {
    *("data", "photos", "weights", "model_config", "audio_mode", "cache", "follow_links"),
    *("precision", "batch_size", "workers", *Reading._fields),
}
_VALIDATION = 4  # photos per class to choose by, at most
_CLASSES = benchmark_classes(max(SIZES))


def imagenet_esc(settings: Settings, cells: Path) -> list[dict[str, Any]]:
    """Run the protocol on a feature file, or on photos and sounds.

    Args:
        settings: The settings.
        cells: Folder of finished cells.

    Returns:
        The rows of `run_protocol`.

    Raises:
        UsageError: an option has no effect, or has a value that the protocol does not allow.
    """
    plan = _plan(settings)
    runtime.choose(settings.device)
    if not settings.features:
        return run_protocol(_encoded(settings, plan.shots), plan, cells)
    with doing(f"reading {settings.features[0]}"):
        features = read_esc_file(settings.features[0])
    return run_protocol(features, plan, cells)


def _plan(settings: Settings) -> Plan:
    """What is run."""
    used = _ON_FILES if settings.features else _ON_DATA
    refuse_idle(settings, settings.given - used, f"with --protocol {IMAGENET_ESC}")
    if len(settings.features) > 1 or len(settings.seeds) > 1:
        raise UsageError(f"--protocol {IMAGENET_ESC} takes one feature file and one seed.", "It has five splits.")
    shots = settings.shot_counts or SHOTS
    if 0 in shots or ALL_SHOTS in shots:
        raise UsageError(f"--protocol {IMAGENET_ESC} needs counts of shots.", "Give --shots 1,2,4.")
    values = {"iterations": str(ITERATIONS), **settings.set}
    iterations = str(values.pop("iterations"))
    if values:
        raise UsageError(f"--set {min(values)} has no effect with --protocol {IMAGENET_ESC}.", "It has iterations.")
    if not (iterations.isascii() and iterations.isdigit() and 0 < int(iterations) <= 1_000_000):
        raise UsageError(f"--set iterations={iterations:.20}: expected a whole number from 1 to 1000000.")
    return Plan(shots=tuple(shots), iterations=int(iterations), seed=(settings.seeds or (1,))[0])


def _encoded(settings: Settings, shots: Sequence[int]) -> EscFeatures:
    """Features of ESC-50's sounds and ImageNet's photos.

    Raises:
        UsageError: the data are not sounds in ESC-50's layout, or --photos is missing.
        DataError: a class is missing or too small, or a file cannot be read.
    """
    if not settings.photos:
        raise UsageError(f"--protocol {IMAGENET_ESC} needs photos too.", "Give --photos DIR, or --features FILE.npz.")
    sounds, photos = open_data(settings), _photos(settings)
    if not sounds.folds:
        raise UsageError(f"{sounds.source} has no folds.", "Give --data a folder in ESC-50's layout.")
    audioclip = read_audioclip(settings)
    settings = dataclasses.replace(settings, white_level=white_level(settings, photos, ()))
    clip = dataclasses.replace(audioclip.clip, reading=settings.reading)
    parts = {**_of_sounds(sounds, audioclip, settings), **_of_photos(photos, clip, shots, settings)}
    return esc_features(encode_texts(clip, [each.text for each in _CLASSES], Path(settings.cache)), parts)


def _of_sounds(sounds: ImageSet, audioclip: AudioClip, settings: Settings) -> dict[str, Part]:
    """The sounds of each fold; in published mode they are encoded together with those of ESC-50's other classes."""
    wanted = with_classes(sounds, [each.category for each in _CLASSES])
    found = {}
    for fold in FOLDS:
        chosen = [sound for sound, own in zip(wanted.train, wanted.folds, strict=True) if own == fold]
        if audioclip.audio.mode == "published":
            whole = [sound.path for sound, own in zip(sounds.train, sounds.folds, strict=True) if own == fold]
            row_of = dict(zip(whole, encode_in_batches(audioclip.audio, whole), strict=True))
            found[f"audio_fold{fold}"] = np.stack([row_of[sound.path] for sound in chosen]), labels_of(chosen)
        else:
            found[f"audio_fold{fold}"] = _features(audioclip.sounds, chosen, settings)
    return found


def _of_photos(photos: ImageSet, clip: ImageEncoder, shots: Sequence[int], settings: Settings) -> dict[str, Part]:
    """The photos of five draws, whose number takes the place of --seed, and the test photos."""
    found = {"image_test": _features(clip, photos.test, settings)}
    for count in {1, *shots}:
        for seed in FOLDS:
            train = sample_support(photos, count, seed)
            drawn = sample_support(photos, count + min(count, _VALIDATION), seed)
            val = [photo for photo in drawn if photo not in train]
            found[f"image_train{count}_seed{seed}"] = _features(clip, train, settings)
            found[f"image_val{count}_seed{seed}"] = _features(clip, val, settings)
    return found


def _features(encoder: ImageEncoder, files: Sequence[Photo], settings: Settings) -> Part:
    found = encode_photos(encoder, paths_of(files), Path(settings.cache), settings.workers)
    found.refuse_bad("file", "Replace or remove them.")
    return found.raw, labels_of(files)


def _photos(settings: Settings) -> ImageSet:
    """The photos of the benchmark's classes with their labels, also of test photos: those of ImageNet's val/.

    Folders are named by WordNet's number, ImageNet's class or ESC-50's category.
    """
    root = Path(settings.photos)
    with doing(f"reading {root}"):
        found = load_dataset(root, follow_links=settings.follow_links)
        train, test = _labelled(found, found.train), _labelled(found, found.test)
        if not test and (root / "val").is_dir():
            val = load_dataset(root / "val", follow_links=settings.follow_links)
            test = _labelled(val, val.train)
    for what, photos in (("training", train), ("labelled test", test)):
        absent = sorted({*range(len(_CLASSES))} - {photo.label for photo in photos if photo.label is not None})
        if absent:
            each = _CLASSES[absent[0]]
            raise DataError(
                f"{root} has no {what} photos of {each.wordnet} ({each.text}).", "Give ImageNet's train/ and val/."
            )
    classes = tuple(ClassInfo(each.imagenet, each.text, "", "") for each in _CLASSES)
    return dataclasses.replace(found, classes=classes, train=train, test=test)


def _labelled(images: ImageSet, photos: Sequence[Photo]) -> tuple[Photo, ...]:
    """The photos of the benchmark's classes, labelled by these; of test photos those whose class is known."""
    numbers = {loose(name): number for number, name in enumerate(images.class_names)}
    label_of: dict[int, int] = {}
    for label, each in enumerate(_CLASSES):
        names = [loose(name) for name in (each.wordnet, each.text, each.category)]
        label_of |= {numbers[name]: label for name in [name for name in names if name in numbers][:1]}
    answers = find_labels(images) if any(photo.label is None for photo in photos) else {}
    pairs = [(photo, answers.get(photo.relative) if photo.label is None else photo.label) for photo in photos]
    return tuple(dataclasses.replace(photo, label=label_of[own]) for photo, own in pairs if own in label_of)
