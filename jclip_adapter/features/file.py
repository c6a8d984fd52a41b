"""Feature files: features and labels of few-shot tasks in one .npz, described in docs/design.md."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import DataError, suggest
from jclip_adapter.core.problems import first_of
from jclip_adapter.core.task import LOGIT_SCALE, Array, FewShotTask, Labelled, Queries, check_rows, normalise
from jclip_adapter.storage import read_npz, sha256_file

logger = logging.getLogger(__name__)
_SHOTS = re.compile(r"train([1-9]\d*)_x")
_KNOWN = re.compile(
    r"(train[1-9]\d*|val|test)_(x|y|aux)|extra_(x|y|modality|scale)|classnames|text|domains|logit_scale"
)
_TRAINING = re.compile(r"train\d*_(x|y|aux)")
_SHOWN = 5
_NAMES = (  # for suggestions
    *("classnames", "text", "domains", "logit_scale", "train4_x", "train4_y", "val_x", "val_y", "test_x", "test_y"),
    *("train4_aux", "val_aux", "test_aux", "extra_x", "extra_y", "extra_modality", "extra_scale"),
)
_NEEDED = ("classnames", "text", "test_x", "test_y")


@dataclass(frozen=True)
class FeatureFile:
    """A feature file's content.

    Attributes:
        name: The file's stem.
        sha256: Digest of the file.
        tasks: The task of each shot count, without validation set.
        validation: The validation set; None for none.
        test: The queries with their labels, for the scorer alone.
    """

    name: str
    sha256: str
    tasks: dict[int, FewShotTask]
    validation: Labelled | None
    test: Labelled


def read_feature_file(path: str | Path) -> FeatureFile:
    """Read a feature file.

    Args:
        path: Of the .npz: `classnames (C,)`, `text (C, d)`, `train{K}_x (N, d)` and `train{K}_y (N,)` for each
            K, `test_x`, `test_y`; optional `val_x`, `val_y`, `domains (C,)`, `logit_scale`, `train{K}_aux`,
            `val_aux`, `test_aux`; of further modalities `extra_x (E, d)`, `extra_y (E,)`, `extra_modality (E,)` of
            names such as "audio", and `extra_scale`, the factor of their cosines with the test rows. float16 or
            float32; rows are normalised here, un-normalised ones are also kept as raw features. Other arrays are logged
            and ignored.

    Returns:
        Its content.

    Raises:
        DataError: the file is missing, damaged, inconsistent, or has Python objects.
    """
    source = Path(path)
    arrays = _arrays(source)
    for name in _NEEDED:
        if name not in arrays:
            raise DataError(f"{source} has no array '{name}'.", suggest(name, arrays))
    counts = sorted(int(match[1]) for name in arrays if (match := _SHOTS.fullmatch(name)))
    if not counts:
        raise DataError(f"{source} has no training rows.", "Name them train{K}_x and train{K}_y, K being the shots.")
    _check_names(source, arrays)
    try:
        return FeatureFile(
            name=source.stem,
            sha256=sha256_file(source),
            tasks={shots: _task(arrays, shots) for shots in counts},
            validation=_labelled(arrays, "val") if "val_x" in arrays else None,
            test=_labelled(arrays, "test"),
        )
    except KeyError as error:
        raise DataError(f"{source} has no array {error}.", "Give rows and labels in pairs.") from error
    except DataError as error:
        raise DataError(f"{source}: {error.message}", error.hint) from error
    except (ValueError, TypeError, OverflowError) as error:  # such as text instead of numbers
        raise DataError(f"{source} has arrays of a wrong dtype ({error}).", "See docs/design.md.") from error


def _check_names(source: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Refuse names that would be ignored or mixed up."""
    for name in arrays:
        if _TRAINING.fullmatch(name) and not _SHOTS.fullmatch(f"{name.partition('_')[0]}_x"):
            raise DataError(
                f"{source}: '{name}' has no number of shots.", "Write train{K}_x with K >= 1, such as train4_x."
            )
    second = [name for name in arrays if name.endswith("_aux")]
    if second and "test_aux" not in arrays:
        raise DataError(f"{source} has '{second[0]}', but no 'test_aux'.", "Add the test photos' rows of that network.")
    given = [name for name in ("extra_x", "extra_y", "extra_modality") if name in arrays]
    if 0 < len(given) < 3 or ("extra_scale" in arrays and not given):
        raise DataError(
            f"{source} has {' and '.join(given or ['extra_scale'])} alone.",
            "Give extra_x, extra_y and extra_modality together.",
        )
    unknown = [name for name in arrays if not _KNOWN.fullmatch(name)]
    if unknown:
        shown = first_of(unknown, _SHOWN)
        logger.warning("%s: arrays that nothing uses: %s; %s", source, shown, suggest(unknown[0], _NAMES))
    widths = {arrays[name].shape[1:] for name in second}
    if len(widths) > 1:
        raise DataError(f"{source}: the widths of *_aux differ ({widths}).", "Extract all by the same network.")


def _arrays(source: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        return read_npz(source.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {source}: {error.strerror or error}.", "Check the path.") from error
    except DataError as error:
        raise DataError(f"{source} is not a feature file: {error.message}", error.hint) from error


def _rows(values: npt.NDArray[Any]) -> tuple[Array, Array | None]:
    """Normalised rows, and the raw rows if they are not normalised."""
    raw = check_rows(values, "rows")
    norms = np.linalg.norm(raw, axis=1)
    return normalise(raw), None if np.allclose(norms, 1, atol=5e-3) else raw


def _classes(arrays: dict[str, npt.NDArray[Any]], name: str) -> npt.NDArray[np.int64]:
    """Class indices; floats that are whole numbers are accepted, booleans and fractions are not."""
    values = arrays[name]
    if values.dtype.kind not in "iuf":
        raise DataError(f"{name}: expected class indices, got {values.dtype}.", "Give whole numbers from 0 to C-1.")
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        odd = values[~(values == np.floor(values))].ravel()
        shown = f" ({odd[0]:g})" if len(odd) else ""
        raise DataError(f"{name} has numbers that are not whole{shown}.", "Give class indices from 0 to C-1.")
    classes = len(arrays["text"])
    if values.size and not (values.min() >= 0 and values.max() < classes):
        raise DataError(f"{name} ranges from {values.min()} to {values.max()}, expected 0 to {classes - 1}.")
    return values.astype(np.int64)


def _scale(arrays: dict[str, npt.NDArray[Any]], name: str) -> float:
    """A factor of cosines: one positive number."""
    values = arrays.get(name, np.array(LOGIT_SCALE))
    if values.size != 1 or values.dtype.kind not in "iuf" or not np.isfinite(values).all() or values.item() <= 0:
        raise DataError(
            f"{name}: expected one positive number, got {values.tolist()!r:.60}.",
            "It is the factor of cosines, 100 for CLIP (not its logarithm).",
        )
    return float(values.item())


def _task(arrays: dict[str, npt.NDArray[Any]], shots: int) -> FewShotTask:
    features, raw = _rows(arrays[f"train{shots}_x"])
    text, text_raw = _rows(arrays["text"])
    labels = _classes(arrays, f"train{shots}_y")
    most = int(np.bincount(labels).max()) if labels.size else 0
    if most > shots:
        raise DataError(
            f"train{shots}_y has up to {most} rows per class.", f"Rename it to train{most}_y, and train{most}_x."
        )
    if not np.linalg.norm(text, axis=1).all():
        raise DataError("'text' has rows of zeros.", "Give each class its text features.")
    return FewShotTask(
        support_features=features,
        support_labels=labels,
        text_features=text,
        class_names=tuple(map(str, arrays["classnames"])),
        domains=tuple(map(str, arrays["domains"])) if "domains" in arrays else (),
        logit_scale=_scale(arrays, "logit_scale"),
        support_raw=raw,
        text_raw=text_raw,
        auxiliary=arrays.get(f"train{shots}_aux"),
        **_further_rows(arrays),
    )


def _further_rows(arrays: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """The task's rows of further modalities, if there are any."""
    if "extra_x" not in arrays:
        return {}
    names = arrays["extra_modality"]
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DataError(f"extra_modality: expected names, got {names.dtype} of shape {names.shape}.")
    features, labels = _rows(arrays["extra_x"])[0], _classes(arrays, "extra_y")
    if not np.linalg.norm(features, axis=1).all():
        raise DataError("extra_x has rows of zeros.", "Leave these rows out.")
    if len(names) != len(features):
        raise DataError(f"extra_modality has {len(names)} names for {len(features)} rows.")
    scale = _scale(arrays, "extra_scale")
    further = {"features": features, "labels": labels, "modalities": names.tolist(), "scale": scale}
    return {f"extra_{name}": value for name, value in further.items()}


def _labelled(arrays: dict[str, npt.NDArray[Any]], part: str) -> Labelled:
    features, raw = _rows(arrays[f"{part}_x"])
    labels = _classes(arrays, f"{part}_y")
    if labels.shape != (len(features),):
        raise DataError(f"{part}_y has shape {labels.shape} for {len(features)} rows.")
    return Labelled(Queries(features, raw, arrays.get(f"{part}_aux")), labels)
