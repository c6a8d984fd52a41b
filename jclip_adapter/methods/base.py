"""The base class of all methods: hyper-parameters, metadata, fit, logits, save and load."""

from __future__ import annotations

import copy
import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.calibration import Calibration
from jclip_adapter.core.errors import DataError, DivergedError, UsageError, suggest
from jclip_adapter.core.task import Array, EncoderLink, FewShotTask, Queries, Weights, all_finite, check_rows, normalise
from jclip_adapter.core.version import __version__
from jclip_adapter.storage import Kind, read_safetensors, write_safetensors
from jclip_adapter.storage.kinds import unchanged_safetensors

if TYPE_CHECKING:
    from typing import Self

T = TypeVar("T")
_TUNED = "encoder_."
_CONFIDENCES = "calibration_."
FITTED = Kind("a fitted method", unchanged_safetensors("method", "hyperparameters"))
"""The file that `Method.save` writes."""


def hyper(
    default: T,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    grid: tuple[Any, ...] = (),
    refit: bool = True,
) -> T:
    """Declare one hyper-parameter of a method.

    Args:
        default: Default value; its type is the parameter's type.
        text: Its meaning with the paper's symbol and unit, in one line.
        low: Smallest value allowed.
        high: Largest value allowed.
        choices: The values allowed, for a string.
        grid: The values that selection tries; empty to keep the default.
        refit: Whether another value needs another `fit`; False if only `logits` uses it.

    Returns:
        A dataclass field.
    """
    facts = {"help": text, "low": low, "high": high, "choices": choices, "grid": grid, "refit": refit}
    return dataclasses.field(default=default, metadata=facts)


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """Base of a method's hyper-parameters: a frozen dataclass whose fields are declared by `hyper`."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = self._converted(item, getattr(self, item.name))
            object.__setattr__(self, item.name, value)

    @staticmethod
    def _converted(item: dataclasses.Field[Any], value: Any) -> Any:
        kind: type[Any] = type(item.default)
        refused = UsageError(f"{item.name}={value!r} is no {kind.__name__}.", f"Its default is {item.default!r}.")
        if kind is bool:
            words = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
            if not isinstance(value, bool) and str(value).lower() not in words:
                raise refused
            return value if isinstance(value, bool) else words[str(value).lower()]
        try:
            result = kind(value)
            whole = kind is not int or result == float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise refused from error
        if not whole:
            raise refused
        return _in_range(item, result)

    def as_dict(self) -> dict[str, Any]:
        """The values by name."""
        return dataclasses.asdict(self)


def _in_range(item: dataclasses.Field[Any], value: Any) -> Any:
    low, high, choices = (item.metadata[key] for key in ("low", "high", "choices"))
    if choices and value not in choices:
        raise UsageError(f"{item.name}={value!r} is not known.", suggest(str(value), choices))
    if isinstance(value, float) and not np.isfinite(value):
        raise UsageError(f"{item.name}={value!r} is not a finite number.", f"Its default is {item.default!r}.")
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"{'' if low is None else low}…{'' if high is None else high}"
        raise UsageError(f"{item.name}={value!r} is out of its range {bounds}.", f"Its default is {item.default!r}.")
    return value


@dataclasses.dataclass(frozen=True)
class Meta:
    """A method's metadata, as data.

    Attributes:
        name: The name on the command line.
        summary: The idea in one line.
        paper: Authors and title.
        year: Of the paper.
        trains: The trained parameters in a few words, or "nothing".
        arxiv: The paper's arXiv number; empty if there is none.
        code: The authors' repository, owner/name; empty if there is none.
        transductive: Whether it needs all queries at once.
        needs: What the task has to contain besides text features: any of "support", "auxiliary", "encoder", or
            "text" if prototypes of the shots cannot replace the text features.
        tunes: The towers of CLIP that it fine-tunes: any of "images", "texts".
        uses: What it uses if the task contains it: any of "support", "raw", "views", "text_views",
            "validation", "extra".
    """

    name: str
    summary: str
    paper: str
    year: int
    trains: str
    arxiv: str = ""
    code: str = ""
    transductive: bool = False
    needs: tuple[str, ...] = ("support",)
    uses: tuple[str, ...] = ()
    tunes: tuple[str, ...] = ()


class Method(ABC):
    """A few-shot classifier on CLIP features, in scikit-learn's manner.

    If the network has no text encoder, the task contains the classes' mean features instead of text features; a method
    that cannot use these has "text" in `needs`.

    Hyper-parameters are given to the constructor and not changed. `fit` returns self and sets numpy arrays whose names
    end in an underscore; `logits` needs nothing else. Fine-tuned weights of CLIP are in the dictionary `encoder_`.
    `history_` holds loss and top-1 per epoch, `step_losses_` the loss of every step. `calibration_` turns logits into
    probabilities; `fit` leaves its temperature at 1 (`evaluation.calibration` fits it).

    Args:
        seed: Of everything random in `fit`; the same seed gives the same bytes on the CPU.
        values: Hyper-parameters by name.

    Raises:
        UsageError: an unknown hyper-parameter or a value out of its range.
    """

    meta: ClassVar[Meta]
    Hyper: ClassVar[type[Hyperparameters]] = Hyperparameters

    def __init__(self, /, *, seed: int = 0, **values: Any) -> None:
        known = [item.name for item in dataclasses.fields(self.Hyper)]
        for name in values:
            if name not in known:
                hint = suggest(str(name), known) if known else "It has no hyper-parameters."
                raise UsageError(f"{self.meta.name} has no hyper-parameter '{name}'.", hint)
        self.seed = seed
        self.hyper = self.Hyper(**values)
        self.classes_: tuple[str, ...] = ()
        self.width_ = 0
        self.raw_ = False
        self.history_: list[dict[str, float]] = []
        self.step_losses_: list[float] = []
        self.encoder_: dict[str, Array] = {}
        self.calibration_ = Calibration()

    def fit(self, task: FewShotTask) -> Self:
        """Learn from a task's support set and texts.

        Args:
            task: The task.

        Returns:
            self.

        Raises:
            DataError: the task lacks what this method needs.
            DivergedError: the loss or what is learnt became NaN or infinite.
        """
        self.check_needs(task)
        self.classes_ = task.class_names
        self.width_ = task.width
        self.raw_ = task.support_raw is not None
        self.history_, self.step_losses_ = [], []
        self.encoder_ = {}
        self.calibration_ = Calibration()
        try:
            self._fit(task)
        except DivergedError as error:
            raise self._diverged(error.message) from error
        arrays = {name: array for name, array in self.learnt().items() if array.dtype.kind == "f"}
        broken = next((name for name, array in arrays.items() if not np.isfinite(array).all()), "")
        if broken:
            raise self._diverged(f"{broken} holds NaN or infinity")
        return self

    def _diverged(self, reason: str) -> DivergedError:
        """The error of a diverged training, with the hyper-parameters that may be the cause."""
        defaults = type(self.hyper)().as_dict()
        values = self.hyper.as_dict()
        changed = {name: value for name, value in values.items() if value != defaults[name]}
        suspects = changed or {name: values[name] for name in values if name == "lr"}
        shown = ", ".join(f"{name}={value!r} (default {defaults[name]!r})" for name, value in suspects.items())
        hint = f"Change {shown}." if shown else "Check the features."
        return DivergedError(f"{self.meta.name}: the training diverged: {reason}.", hint)

    def logits(self, queries: npt.ArrayLike | Queries) -> Array:
        """Score queries; the highest score wins.

        Args:
            queries: (M, d) L2-normalised image features, or `Queries`, which can contain more. A method that uses
                un-normalised features takes the normalised ones if there are no others. A method that fine-tuned CLIP's
                image tower encodes the photos again and needs `Queries` with `encode`.

        Returns:
            (M, C) float32, finite for every class.

        Raises:
            DataError: not fitted, width differs from the task's, NaN in the queries, or un-normalised or auxiliary
                features are missing although `fit` had them.
        """
        if not self.classes_:
            raise DataError(f"{self.meta.name} is not fitted.", "Call fit(task) first.")
        given = queries if isinstance(queries, Queries) else Queries(np.asarray(queries, dtype=np.float32))
        check_rows(given.features[:0], "queries", self.width_)  # NaN was looked for when the queries were made
        if "auxiliary" in self.meta.needs and given.auxiliary is None:
            raise DataError(f"{self.meta.name} needs the queries' auxiliary features too.")
        if "raw" in self.meta.uses and self.raw_ and given.raw is None:
            raise DataError(f"{self.meta.name} was fitted on un-normalised features and needs the queries' too.")
        if not len(given):
            return np.zeros((0, len(self.classes_)), dtype=np.float32)
        if self.tunes_images:
            given = self._reencoded(given)
        scores = np.asarray(self._logits(given), dtype=np.float32)
        if not all_finite(scores):
            raise DataError(f"{self.meta.name} produced NaN or infinite scores.", "Lower its learning rate.")
        return scores

    def logits_among(self, queries: Queries, classes: npt.NDArray[np.int64]) -> Array:
        """Score queries that only some of the classes compete for.

        A method whose scores of a class depend on which others compete overrides this.

        Args:
            queries: M photos, as for `logits`.
            classes: (K,) class indices.

        Returns:
            (M, K) float32.
        """
        return self.logits(queries)[:, classes]

    def with_values(self, **values: Any) -> Self:
        """A fitted copy with other hyper-parameters, whose `refit` is False.

        Raises:
            UsageError: one of them needs another `fit`.
        """
        for item in dataclasses.fields(self.Hyper):
            if item.name in values and item.metadata["refit"]:
                raise UsageError(f"{self.meta.name} has to be fitted again for another {item.name}.")
        twin = copy.copy(self)
        twin.hyper = dataclasses.replace(self.hyper, **values)
        twin.calibration_ = Calibration()
        return twin

    @abstractmethod
    def _fit(self, task: FewShotTask) -> None:
        """Set the learnt arrays."""

    @abstractmethod
    def _logits(self, queries: Queries) -> npt.NDArray[Any]:
        """Checked queries, at least one → (M, C)."""

    def check_needs(self, task: FewShotTask) -> None:
        """Check that a task contains what this method needs.

        Raises:
            DataError: something is missing; the hint names the option.
        """
        needs = self.meta.needs
        if "support" in needs and not len(task.support_labels):
            raise DataError(f"{self.meta.name} needs support photos, but the task has none.", "Give --shots 1 or more.")
        if not task.has_text and ("text" in needs or not len(task.support_labels)):
            raise DataError(
                f"{self.meta.name} needs texts, but this network has no text encoder.", "Give --weights a CLIP."
            )
        if "auxiliary" in needs and task.auxiliary is None:
            raise DataError(
                f"{self.meta.name} needs a second network's features.",
                "Give --auxiliary NAME, with photos or to --extract (train{K}_aux and test_aux of a feature file).",
            )
        if "encoder" in needs and task.encoder is None:
            raise DataError(
                f"{self.meta.name} trains through CLIP, but the task has only features.",
                "Give --weights a CLIP, and photos instead of feature files.",
            )

    @property
    def uses_shots(self) -> bool:
        """Whether it learns from the support set, if there is one."""
        return "support" in (*self.meta.needs, *self.meta.uses)

    @property
    def uses_auxiliary(self) -> bool:
        """Whether it uses a second network's features or classes."""
        return "auxiliary" in self.meta.needs

    @property
    def uses_raw(self) -> bool:
        """Whether `logits` may use un-normalised features; otherwise nobody has to prepare them."""
        return "raw" in self.meta.uses

    @property
    def uses_extra(self) -> bool:
        """Whether it uses rows of further modalities."""
        return "extra" in self.meta.uses

    @property
    def tunes_images(self) -> bool:
        """Whether the image tower was fine-tuned, so that photos have to be encoded again."""
        return any(key.startswith("visual.") for key in self.encoder_)

    def encoder_weights(self, base: Weights) -> Weights:
        """CLIP's weights after fine-tuning.

        Args:
            base: All of CLIP's original weights.

        Returns:
            The changed weights; empty if the method does not fine-tune CLIP.
        """
        return {key: self.encoder_[key] for key in base if key in self.encoder_}

    def _reencoded(self, queries: Queries) -> Queries:
        """The queries encoded by the fine-tuned CLIP."""
        if queries.encode is None:
            raise DataError(
                f"{self.meta.name} has fine-tuned CLIP's image tower and cannot use features of the original one.",
                "Give Queries that can encode their photos anew.",
            )
        raw = queries.encode(self.encoder_weights)
        return Queries(normalise(raw), raw, queries.auxiliary)

    def learnt(self) -> dict[str, npt.NDArray[Any]]:
        """The learnt arrays by attribute name; those of `encoder_` by "encoder_.NAME"."""
        arrays = {k: value for k, value in vars(self).items() if k.endswith("_") and isinstance(value, np.ndarray)}
        return arrays | {f"{_TUNED}{key}": value for key, value in self.encoder_.items()}

    def save(self, path: str | Path, **facts: str) -> None:
        """Write the learnt state: a safetensors file whose header holds the manifest.

        Args:
            path: The file.
            facts: Further entries of the manifest, such as the weights' SHA-256.

        Raises:
            DataError: not fitted.
        """
        if not self.classes_:
            raise DataError(f"{self.meta.name} is not fitted, so it cannot be saved.")
        manifest = {
            "method": self.meta.name,
            "version": __version__,
            "seed": str(self.seed),
            "hyperparameters": json.dumps(self.hyper.as_dict()),
            "classes": json.dumps(self.classes_, ensure_ascii=False),
            "width": str(self.width_),
            "raw": str(int(self.raw_)),
            **facts,
        }
        arrays, known = self.learnt(), self.calibration_
        if known.source:
            manifest |= {"temperature": repr(known.temperature), "calibrated_on": known.source}
            manifest |= {"held_out_correct": str(known.correct), "held_out": str(known.tested)}
            manifest |= {"held_out_share": repr(known.share)}
            arrays |= {f"{_CONFIDENCES}known": known.known, f"{_CONFIDENCES}unknown": known.unknown}
        write_safetensors(path, arrays, manifest, FITTED)

    def attach(self, encoder: EncoderLink | None) -> None:  # noqa: B027  (most methods score without CLIP)
        """Give a loaded method the CLIP that it was trained with, if prediction needs it."""

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file that `save` wrote.

        Args:
            path: The file.

        Returns:
            A fitted method.

        Raises:
            DataError: the file is damaged, or another method wrote it.
        """
        arrays, manifest = read_safetensors(path)
        if manifest.get("method") != cls.meta.name:
            raise DataError(f"{path} was learnt by {manifest.get('method') or 'nothing known'}, not {cls.meta.name}.")
        return cls._restored(arrays, manifest)

    @classmethod
    def _restored(cls, arrays: Mapping[str, npt.NDArray[Any]], manifest: Mapping[str, str]) -> Self:
        method = cls(seed=int(manifest["seed"]), **json.loads(manifest["hyperparameters"]))
        method.classes_ = tuple(json.loads(manifest["classes"]))
        method.width_ = int(manifest["width"])
        method.raw_ = manifest["raw"] == "1"
        if "temperature" in manifest:  # versions up to 0.2 had none
            known: dict[str, Any] = {name: arrays[f"{_CONFIDENCES}{name}"] for name in ("known", "unknown")}
            counts = (int(manifest.get(name, 0)) for name in ("held_out_correct", "held_out"))
            known |= dict(zip(("correct", "tested"), counts, strict=True))
            known["share"] = float(manifest.get("held_out_share", 1))
            method.calibration_ = Calibration(float(manifest["temperature"]), manifest["calibrated_on"], **known)
        for name, value in arrays.items():
            if name.startswith(_TUNED):
                method.encoder_[name.removeprefix(_TUNED)] = value
            elif name.startswith(_CONFIDENCES):
                continue
            else:
                setattr(method, name, value)
        return method
