"""What a command is told: flags over a YAML file over defaults."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .choices import DEVICES, PRECISIONS, SAMPLE
from .errors import UsageError, suggest
from .strict_yaml import read_yaml_mapping

DEFAULT_WEIGHTS = "ViT-B/32"
RUNS = Path("results/runs")
# The upper ends keep a slip of the hand from taking all memory or starting thousands of processes.
_RANGES = {
    "shots": (1, 1_000_000),
    "seed": (0, 2**63 - 1),
    "batch_size": (0, 8192),
    "workers": (-1, 256),
    "views": (0, 1000),
}


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run, apart from which command it is.

    Attributes:
        data: Data folder, CSV file, or "sample".
        weights: Weight file, the name of a CLIP or an ImageNet network, or "sample"; empty for ViT-B/32, or the
            sample's on its data.
        method: Name of the method.
        set: The method's hyper-parameters by name, as typed.
        shots: Training photos per class.
        seed: Chooses the shots and everything random in training.
        split: Which of the contest's test sets and class lists: "A" or "B".
        support: "random", "first" (the first photos in list order), or a list file of the chosen photos.
        prompts: Name or path of a prompt set.
        device: "auto", "cpu" or "cuda".
        batch_size: Photos per forward pass; 0 chooses by device.
        precision: Of CLIP's matrix products: "float32", "bfloat16" (CPUs with AVX-512 BF16 or AMX, and CUDA) or
            "float16" (CUDA).
        auxiliary: A second network beside CLIP, for the methods that use its features; empty for none.
        workers: Decoding processes; 0 for threads, −1 for what is faster.
        views: Augmented copies of each training photo, for the methods that use them; their features are kept.
        encoder: Run folder whose tuned CLIP takes the place of the weights' own; empty for none.
        run: Run folder; empty for one named after the settings.
        cache: Where features are kept, and weights that were pickled, as safetensors.
    """

    data: str = "Dataset"
    weights: str = ""
    method: str = "jclip-adapter"
    set: Mapping[str, Any] = field(default_factory=dict)
    shots: int = 4
    seed: int = 0
    split: Literal["A", "B"] = "A"
    support: str = "random"
    prompts: str = "seed"
    device: str = "auto"
    batch_size: int = 0
    precision: str = "float32"
    auxiliary: str = ""
    workers: int = -1
    views: int = 0
    encoder: str = ""
    run: str = ""
    cache: str = "results/features"

    def __post_init__(self) -> None:
        for name, choices in (("split", ("A", "B")), ("device", DEVICES), ("precision", PRECISIONS)):
            if getattr(self, name) not in choices:
                raise UsageError(
                    f"{name} '{getattr(self, name)}' is not known.", suggest(str(getattr(self, name)), choices)
                )
        for name, (low, high) in _RANGES.items():
            value, flag = getattr(self, name), f"--{name.replace('_', '-')}"
            if value < low:
                raise UsageError(f"{flag} is {value}.", f"Give {low} or more.")
            if value > high:
                raise UsageError(f"{flag} is {value}.", f"Give {high} or less.")
        for key in self.set:
            if not isinstance(key, str):
                raise UsageError(f"set: {key!r} names no hyper-parameter.", "Write key: value, such as ratio: 0.3.")
        if "seed" in self.set:
            raise UsageError("'seed' is no hyper-parameter.", "Use --seed.")

    @property
    def weights_or_default(self) -> str:
        """The weights to load."""
        return self.weights or (SAMPLE if self.data == SAMPLE else DEFAULT_WEIGHTS)

    @property
    def run_folder(self) -> Path:
        """Where the run's files lie: the same settings find the same folder again."""
        if self.run:
            return Path(self.run)
        shots = f"{self.shots}shot-seed{self.seed}"
        if self.support != "random":
            shots = f"{self.shots}first" if self.support == "first" else f"support-{Path(self.support).stem}"
        parts = (
            Path(self.data).stem if self.data.endswith(".csv") else Path(self.data).resolve().name,
            self.split,
            Path(self.weights_or_default).stem
            if Path(self.weights_or_default).suffix
            else self.weights_or_default.replace("/", "-"),
            Path(self.prompts).stem,
            self.method,
            shots,
            *([f"{self.views}views"] if self.views else []),
            *([self.precision] if self.precision != "float32" else []),
            *([f"with-{self.auxiliary}"] if self.auxiliary else []),
            *([f"on-{Path(self.encoder).name}"] if self.encoder else []),
        )
        return RUNS / "-".join(re.sub(r"[^\w.@+]+", "-", part) for part in parts)


def build_settings(flags: Mapping[str, Any], config: str = "") -> tuple[Settings, set[str]]:
    """Put flags over a YAML file over the defaults.

    Args:
        flags: What was typed, by Settings' names; absent or None where nothing was.
        config: Path of a YAML file with Settings' names as keys; empty for none.

    Returns:
        The settings, and the names of those that were given by flag or file.

    Raises:
        UsageError: an unknown key, or a value of another kind than the setting's.
    """
    known = {item.name: item for item in dataclasses.fields(Settings)}
    values: dict[str, Any] = {}
    if config:
        for key, value in read_yaml_mapping(Path(config)).items():
            name = str(key).replace("-", "_")
            if name not in known:
                raise UsageError(f"{config} has an unknown key '{key}'.", suggest(name, known))
            values[name] = _typed(name, value, config)
    typed = {name: value for name, value in flags.items() if value is not None}
    if "set" in values and "set" in typed:
        typed["set"] = {**values["set"], **typed["set"]}
    given = {**values, **typed}
    return Settings(**given), set(given)


def _typed(name: str, value: Any, config: str) -> Any:
    default = getattr(Settings(), name)
    kind = dict if name == "set" else type(default)
    if isinstance(value, bool) or not isinstance(value, kind):
        raise UsageError(
            f"{config}: {name} is {value!r}, but has to be a {'mapping' if kind is dict else kind.__name__}.",
            f"Its default is {default!r}.",
        )
    return value


def parse_assignments(pairs: list[str]) -> dict[str, str]:
    """Take `--set key=value` arguments apart.

    >>> parse_assignments(["ratio=0.3", "epochs=5"])
    {'ratio': '0.3', 'epochs': '5'}

    Raises:
        UsageError: one has no "=" or no key, or a key stands twice.
    """
    values: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key.strip():
            raise UsageError(f"--set {pair} is no assignment.", "Write --set key=value, such as --set ratio=0.3.")
        if key.strip() in values:
            raise UsageError(f"--set gives '{key.strip()}' twice.", "Keep one of them.")
        values[key.strip()] = value.strip()
    return values
