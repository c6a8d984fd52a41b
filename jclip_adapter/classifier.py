"""A photo classifier with scikit-learn's conventions, built on the same parts as the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from jclip_adapter.core.errors import DataError, MissingError, UsageError
from jclip_adapter.core.task import Array
from jclip_adapter.data.texts.prompts import load_prompts
from jclip_adapter.evaluation.calibration import calibrate
from jclip_adapter.features.task_encoder import TaskEncoder
from jclip_adapter.methods import FITTED, Method, create
from jclip_adapter.methods import load as load_method
from jclip_adapter.models import backbones
from jclip_adapter.models.backbones.encoder import load_backbone
from jclip_adapter.models.clip.encoder import load_encoder
from jclip_adapter.models.weights.hub import pinned, revision_of
from jclip_adapter.storage import Kind, check_manifest, read_json, write_checked_json, write_together
from jclip_adapter.storage.kinds import unchanged_json

_ADAPTER, _FACTS = "adapter.safetensors", "classifier.json"
_KINDS = {
    _ADAPTER: FITTED,
    _FACTS: Kind("the facts of a classifier", unchanged_json("parameters", "classes")),
    "manifest.json": Kind("the manifest of a classifier", unchanged_json("files", damaged=True)),
}


class FewShotClassifier(ClassifierMixin, BaseEstimator):
    """Few-shot classifier of photos.

    The labels are class names for CLIP's text encoder: "black bear" rather than "class_7".

    Args:
        model: Weights as for `--weights`: a name, a file or a folder.
        method: Name of the adaptation method; `jclip_adapter.methods.available()` lists them.
        hyperparameters: The method's hyper-parameters by name; None for the defaults.
        class_names: Labels in words, by label; None for the labels themselves.
        prompts: Prompt set: a name or a YAML file.
        views: Augmented views per photo, for methods that use them.
        seed: Seed of everything random.
        device: "auto", "cpu" or "cuda".
        precision: Precision of CLIP's matmuls: "float32", "bfloat16" or "float16".
        batch_size: Photos per forward pass; 0 chooses by device.
        workers: Decoding processes; -1 chooses, 0 uses threads.
        cache: Folder of features and converted weights.

    Attributes:
        classes_: (C,) labels, sorted.
        method_: The fitted method.

    >>> FewShotClassifier(model="sample", method="tip-adapter").get_params()["method"]
    'tip-adapter'

    See Also:
        `jclip_adapter.methods.create`: the methods on features, without photos.
    """

    def __init__(
        self,
        model: str = "ViT-B/32",
        method: str = "auto",
        *,
        hyperparameters: Mapping[str, Any] | None = None,
        class_names: Mapping[Any, str] | None = None,
        prompts: str = "seed",
        views: int = 0,
        seed: int = 0,
        device: str = "auto",
        precision: str = "float32",
        batch_size: int = 0,
        workers: int = -1,
        cache: str = "results/features",
    ) -> None:
        self.model = model
        self.method = method
        self.hyperparameters = hyperparameters
        self.class_names = class_names
        self.prompts = prompts
        self.views = views
        self.seed = seed
        self.device = device
        self.precision = precision
        self.batch_size = batch_size
        self.workers = workers
        self.cache = cache

    def fit(self, X: Sequence[str | Path], y: Sequence[Any]) -> FewShotClassifier:
        """Fit the method to labelled photos.

        Args:
            X: N paths of photos.
            y: N labels.

        Returns:
            This classifier.

        Raises:
            UsageError: expected a list of paths and one label each, a label is missing, or an unknown method.
            DataError: a photo cannot be read, or there is none.
            WeightsError: the weights are missing or cannot be read.
        """
        paths = _paths(X)
        labels = np.asarray(y)
        if labels.shape != (len(paths),):
            raise UsageError(f"expected one label per photo, got {labels.shape} labels for {len(paths)} photos.")
        for path, label in zip(paths, y, strict=True):
            if label is None or (isinstance(label, float | np.floating) and np.isnan(label)):
                raise UsageError(f"{path} has no label, but {label}.", "Give it one, or leave it out.")
        method = create(self.method, seed=self.seed, **(self.hyperparameters or {}))
        classes, codes = np.unique(labels, return_inverse=True)
        if not len(classes):
            raise DataError("expected photos, got none.")
        tasks = self._open(classes)
        task = tasks.task(paths, codes.astype(np.int64), self.views, self.seed)
        self.method_: Method = calibrate(method.fit(task), task)
        self.classes_: npt.NDArray[Any] = classes
        self._tasks = tasks
        return self

    def predict_proba(self, X: Sequence[str | Path]) -> npt.NDArray[np.float64]:
        """Class probabilities, calibrated on held-out photos of `fit` (docs/trust.md).

        Args:
            X: M paths of photos.

        Returns:
            (M, C), columns in the order of `classes_`.

        Raises:
            NotFittedError: `fit` was not called.
            DataError: a photo cannot be read.
        """
        logits = self._logits(X)
        return self.method_.calibration_.probabilities(logits)

    def predict(self, X: Sequence[str | Path]) -> npt.NDArray[Any]:
        """The most probable label of each photo; arguments and errors as `predict_proba`.

        Returns:
            (M,) labels.
        """
        logits = self._logits(X)
        return self.classes_[logits.argmax(axis=1)]

    def is_known(self, X: Sequence[str | Path], reject: float = 0.05) -> npt.NDArray[np.bool_]:
        """Whether each photo is of one of the classes; False for "none of these" (docs/trust.md).

        Args:
            X: M paths of photos.
            reject: Share of photos of the classes that may be refused, between 0 and 1.

        Returns:
            (M,) truth values.

        Raises:
            NotFittedError: `fit` was not called.
            UsageError: there are too few training photos for this share.
            DataError: a photo cannot be read.
        """
        logits = self._logits(X)
        return self.method_.calibration_.is_known(logits, reject)

    def save(self, folder: str | Path) -> None:
        """Write the fitted classifier to a folder, without CLIP's weights.

        Raises:
            NotFittedError: `fit` was not called.
            UsageError: the folder holds something else.
            SetupError: it cannot be written.
        """
        self._check_fitted()
        with write_together(Path(folder), "a classifier", _KINDS) as fresh:
            self.method_.save(fresh / _ADAPTER, weights_sha256=self._tasks.encoder.sha256)
            names = None if self.class_names is None else {str(key): value for key, value in self.class_names.items()}
            facts = {
                "parameters": {**self.get_params(), "class_names": names},
                "classes": self.classes_.tolist(),
                "weights_sha256": self._tasks.encoder.sha256,
                "weights_revision": revision_of(self._tasks.encoder.weights),
            }
            write_checked_json(fresh / _FACTS, json.loads(json.dumps(facts)))

    @classmethod
    def load(cls, folder: str | Path) -> FewShotClassifier:
        """Read what `save` wrote.

        Raises:
            DataError: it does not exist, is not a classifier, is damaged, or its weights have changed.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise MissingError(f"there is no folder {folder}.")
        check_manifest(folder)
        facts = read_json(folder / _FACTS)
        parameters = facts["parameters"]
        found = cls(**{**parameters, "model": pinned(parameters["model"], facts.get("weights_revision", ""))})
        found.classes_ = np.array(facts["classes"])
        found._tasks = found._open(found.classes_)
        if found._tasks.encoder.sha256 != facts["weights_sha256"]:
            raise DataError(f"{folder} was trained with other weights than {found.model}.", "Fit again.")
        found.method_ = load_method(folder / _ADAPTER)
        link = found._tasks.link()
        if link:
            found.method_.attach(link)
        return found

    def _open(self, classes: npt.NDArray[Any]) -> TaskEncoder:
        """The network and the classes in words."""
        cache = Path(self.cache)
        details = (self.device, self.batch_size, cache, self.precision)
        load = load_backbone if self.model in backbones.KNOWN else load_encoder
        names = tuple(map(str, classes.tolist()))
        words = {str(label): text for label, text in (self.class_names or {}).items()}
        unknown = sorted(set(words) - set(names))
        if unknown:
            raise UsageError(f"class_names: '{unknown[0]}' is not among the labels.")
        prompts = load_prompts(self.prompts).respelled(words)
        return TaskEncoder(load(self.model, *details), names, ("",) * len(names), prompts, cache, None, self.workers)

    def _logits(self, X: Sequence[str | Path]) -> Array:
        self._check_fitted()
        features = self._tasks.photos(_paths(X))
        features.refuse_bad("photo", "Leave them out.")
        return self.method_.logits(self._tasks.queries(features))

    def _check_fitted(self) -> None:
        if not hasattr(self, "method_"):
            raise NotFittedError(f"This {type(self).__name__} instance is not fitted yet. Call 'fit' first.")


def _paths(photos: Sequence[str | Path]) -> list[Path]:
    """The paths of photos; UsageError where they are something else."""
    if isinstance(photos, str | bytes | Path):
        raise UsageError("expected a list of paths, got one path.", "Give [path].")
    found = list(photos)
    wrong = next((photo for photo in found if not isinstance(photo, str | Path)), None)
    if wrong is not None:
        raise UsageError(f"expected paths of photos, got {type(wrong).__name__}.")
    return [Path(photo) for photo in found]
