"""What every method is: hyper-parameters, metadata, fit, logits, save and load."""

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

from jclip_adapter import __version__
from jclip_adapter.core.errors import DataError, DivergedError, UsageError, suggest
from jclip_adapter.core.task import Array, EncoderLink, FewShotTask, Queries, Weights, check_rows, normalise
from jclip_adapter.storage import Kind, read_safetensors, write_safetensors
from jclip_adapter.storage.kinds import sealed_safetensors

if TYPE_CHECKING:
    from typing import Self

T = TypeVar("T")
_TUNED = "encoder_."
FITTED = Kind("a fitted method", sealed_safetensors("method", "hyperparameters"))
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
        default: Its value when nothing is said; its type is the parameter's type.
        text: What it does, with its unit, in one line.
        low: Smallest value allowed.
        high: Largest value allowed.
        choices: The values allowed, for a string.
        grid: The values that a search tries; empty to leave it at its default.
        refit: Whether another value needs another `fit`; False where only `logits` uses it.

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
        name: The name that users type.
        summary: The idea in one line.
        paper: Authors and title.
        year: Of the paper.
        trains: What is learnt, in a few words; "nothing" for none.
        arxiv: The paper's arXiv number; empty if there is none.
        code: The authors' repository, owner/name; empty if there is none.
        transductive: Whether it needs all queries at once.
        needs: What the task has to carry beyond the text features: any of "support", "auxiliary", "encoder", or
            "text" where prototypes of the shots cannot stand in for the text features.
        tunes: Which of CLIP's towers it changes: any of "images", "texts".
        uses: What it makes use of where the task carries it: any of "support", "raw", "views", "text_views",
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

    On a network that knows no texts, the task has the classes' means of shots in their place; a method that cannot do
    with these says so in `needs`.

    Hyper-parameters are given to the constructor and stay as they are; `fit` returns self; what is learnt are
    numpy arrays whose names end in an underscore, and they are all that `logits` needs. What is trained of CLIP
    itself lies in the dictionary `encoder_`.

    Args:
        seed: For everything random in `fit`; same seed, same bytes on the CPU.
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
        """The error of a training that went astray, with the hyper-parameters that may be to blame."""
        defaults = type(self.hyper)().as_dict()
        values = self.hyper.as_dict()
        changed = {name: value for name, value in values.items() if value != defaults[name]}
        suspects = changed or {name: values[name] for name in values if name == "lr"}
        told = ", ".join(f"{name}={value!r} (default {defaults[name]!r})" for name, value in suspects.items())
        cure = f"Try others than {told}." if told else "Check the features."
        return DivergedError(f"{self.meta.name}: the training diverged: {reason}.", cure)

    def logits(self, queries: npt.ArrayLike | Queries) -> Array:
        """Score queries; the highest score wins.

        Args:
            queries: (M, d) L2-normalised image features, or `Queries` that carry more than that. A method that
                uses un-normalised features takes the normalised ones where there are no others; one that has
                tuned CLIP's image tower encodes the photos anew and so needs `Queries` that can do that.

        Returns:
            (M, C) float32, finite for every class.

        Raises:
            DataError: not fitted, another width than the task had, NaN in the queries, or no un-normalised
                or auxiliary features although `fit` had some.
        """
        if not self.classes_:
            raise DataError(f"{self.meta.name} is not fitted.", "Call fit(task) first.")
        given = queries if isinstance(queries, Queries) else Queries(np.asarray(queries, dtype=np.float32))
        check_rows(given.features, "queries", self.width_)
        if "auxiliary" in self.meta.needs and given.auxiliary is None:
            raise DataError(f"{self.meta.name} needs the queries' auxiliary features too.")
        if "raw" in self.meta.uses and self.raw_ and given.raw is None:
            raise DataError(f"{self.meta.name} was fitted on un-normalised features and needs the queries' too.")
        if not len(given):
            return np.zeros((0, len(self.classes_)), dtype=np.float32)
        if self.tunes_images:
            given = self._encoded_anew(given)
        scores = np.asarray(self._logits(given), dtype=np.float32)
        if not np.isfinite(scores).all():
            raise DataError(f"{self.meta.name} produced NaN or infinite scores.", "Lower its learning rate.")
        return scores

    def with_values(self, **values: Any) -> Self:
        """This method with other hyper-parameters, as fitted: for those whose `refit` is False.

        Raises:
            UsageError: one of them needs another `fit`.
        """
        for item in dataclasses.fields(self.Hyper):
            if item.name in values and item.metadata["refit"]:
                raise UsageError(f"{self.meta.name} has to be fitted again for another {item.name}.")
        twin = copy.copy(self)
        twin.hyper = dataclasses.replace(self.hyper, **values)
        return twin

    @abstractmethod
    def _fit(self, task: FewShotTask) -> None:
        """Set the learnt arrays."""

    @abstractmethod
    def _logits(self, queries: Queries) -> npt.NDArray[Any]:
        """Checked queries, at least one → (M, C)."""

    def check_needs(self, task: FewShotTask) -> None:
        """Refuse a task that lacks what this method needs.

        Raises:
            DataError: it does; the hint names the option.
        """
        needs = self.meta.needs
        if "support" in needs and not len(task.support_labels):
            raise DataError(f"{self.meta.name} needs support photos, and there is none.", "Give --shots 1 or more.")
        if not task.has_text and ("text" in needs or not len(task.support_labels)):
            raise DataError(
                f"{self.meta.name} needs texts, which this network cannot encode.", "Give --weights a CLIP."
            )
        if "auxiliary" in needs and task.auxiliary is None:
            raise DataError(
                f"{self.meta.name} needs a second network's features.",
                "Give --auxiliary NAME, with photos or to --extract (train{K}_aux and test_aux of a feature file).",
            )
        if "encoder" in needs and task.encoder is None:
            raise DataError(
                f"{self.meta.name} trains through CLIP, and there are features only.",
                "Give --weights a CLIP, and photos instead of feature files.",
            )

    @property
    def uses_auxiliary(self) -> bool:
        """Whether it makes use of a second network's features or classes."""
        return "auxiliary" in self.meta.needs

    @property
    def tunes_images(self) -> bool:
        """Whether what was learnt changes the image tower, and so every photo's features."""
        return any(key.startswith("visual.") for key in self.encoder_)

    def encoder_weights(self, base: Weights) -> Weights:
        """CLIP's weights as this method has tuned them.

        Args:
            base: All of CLIP's weights, as they were before.

        Returns:
            Those that are others now; nothing where the method leaves CLIP alone.
        """
        return {key: self.encoder_[key] for key in base if key in self.encoder_}

    def _encoded_anew(self, queries: Queries) -> Queries:
        """The queries as the tuned CLIP sees them."""
        if queries.encode is None:
            raise DataError(
                f"{self.meta.name} has tuned CLIP's image tower, so features of the untuned one are of no use to it.",
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
            path: Of the file.
            facts: Further facts for the manifest, such as the weights' SHA-256.

        Raises:
            DataError: not fitted.
        """
        if not self.classes_:
            raise DataError(f"{self.meta.name} is not fitted, so there is nothing to save.")
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
        write_safetensors(path, self.learnt(), manifest, FITTED)

    def attach(self, encoder: EncoderLink | None) -> None:  # noqa: B027  (most methods score without CLIP)
        """Give a loaded method the CLIP that it was trained with, if it scores through it."""

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Args:
            path: Of the file.

        Returns:
            A fitted method.

        Raises:
            DataError: damaged, or learnt by another method.
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
        for name, value in arrays.items():
            if name.startswith(_TUNED):
                method.encoder_[name.removeprefix(_TUNED)] = value
            else:
                setattr(method, name, value)
        return method
