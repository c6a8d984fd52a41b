"""The table of all options; settings from flags, a YAML file and defaults."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jclip_adapter.core.choices import (
    ALL_SHOTS,
    AUDIO_MODES,
    DEVICES,
    LANGUAGES,
    LAYOUTS,
    NETWORKS,
    PART_PHOTOS,
    PRECISIONS,
    PROTOCOLS,
    SAMPLE,
)
from jclip_adapter.core.errors import UsageError, suggest
from jclip_adapter.core.strict_yaml import read_yaml_mapping
from jclip_adapter.data.photos.reading import EXIF, JPEG, TRANSPARENT, Reading
from jclip_adapter.features.sharding import Part, parse_part

from .options import (
    BENCHMARK,
    BENCHMARK_FILES,
    BENCHMARKS,
    CHECK,
    CLASSIFY,
    CONVERT,
    DOCTOR,
    DUPLICATES,
    EVALUATE,
    EVERY,
    EXTRACT,
    EXTRACT_PARTS,
    INSPECT,
    ON_DATA,
    ON_PHOTOS,
    ON_RUNS,
    ON_SHOTS,
    PREDICT,
    SEARCH,
    SERVE,
    TRAIN,
    WITH_METHODS,
    WITH_NETWORK,
    Option,
    has_effect,
    option,
    options_of,
    refuse_without_effect,
)
from .values import parse_effective_classes, parse_engine, parse_noise

if TYPE_CHECKING:
    from jclip_adapter.data.sets.model import FileKind

logger = logging.getLogger(__name__)

DEFAULT_WEIGHTS = "ViT-B/32"
METHOD, CONTEST_METHOD, ZERO_SHOT = "auto", "jclip-adapter", "zero-shot"
RUNS = Path("results/runs")
INSPECTIONS = Path("results/inspections")
PROJECTS = Path("results/projects")
_BENCHMARK = "with --benchmark (--method all,encoder,NAME; --shots 1,2,4; --seed 1,2)"
DETAILS = "details"


@dataclass(frozen=True)
class Settings:
    """All options of all commands; each field declares its meaning, range and commands.

    Attributes:
        weights: Empty for ViT-B/32, or for the sample's on its data (`weights_or_default`).
        prompts: Empty for the set that fits the data (`prompts_or_default`).
        method: Empty for the one that fits the data (`method_or_default`).
        set: The method's hyper-parameters by name, as typed.
        batch_size: 0 chooses by device.
        workers: −1 chooses the faster way.
        exif: "keep" leaves photos as stored, as in OpenAI's preprocessing.
        jpeg: "exact" decodes at full size, as all published features were.
        transparent: "drop" shows the colours stored under transparent pixels, as in OpenAI's preprocessing.
        white_level: 0 infers it from the data set, where a file does not declare it.
        run: Empty for a folder named after the settings (`run_folder`).
        reject: None to mark no photo as unknown.
        holdout: None to prefer labelled test photos.
        classes: Names in place of a data set; empty for none.
        given: Names of the options given by flag or file.
        shot_counts: The values of `shots` for commands that take a list; empty where not given.
        seeds: The values of `seed`.
    """

    data: str = option(
        "Dataset", "contest folder, folder per class, CSV, extract's DIR, or 'sample'", ON_DATA, metavar="DIR"
    )
    weights: str = option(
        "",
        "weight file or folder, model name, hf:ORG/NAME of the Hugging Face hub, or 'sample'; efficientnet-lite0 and "
        "-lite2 have no text encoder and use the shots' class means instead of texts",
        WITH_NETWORK,
        metavar="PATH",
        shown=DEFAULT_WEIGHTS,
    )
    model_config: str = option(
        "",
        "configuration of weights without one: an open_clip_config.json or config.json, 'openai', or a name as in "
        "open_clip:ViT-B-32",
        (*WITH_NETWORK, CONVERT),
        metavar="NAME",
    )
    encoder: str = option("", "run folder whose tuned CLIP (or prompts) is used", ON_SHOTS, metavar="RUN")
    auxiliary: str = option(
        "",
        f"a second network for photos: {', '.join(NETWORKS)}, or another CLIP as for --weights",
        ON_SHOTS,
        metavar="NAME",
        shown="none",
    )
    audio: str = option(
        "",
        "sounds of the same classes, which help to classify photos",
        ON_SHOTS,
        metavar="DIR",
    )
    photos: str = option(
        "",
        'extract DIR: folder, list or "*.tar"; for sounds: photos of their classes',
        (*ON_SHOTS, EXTRACT_PARTS),
        metavar="SOURCE",
    )
    audio_mode: str = option(
        "",
        "with --protocol imagenet-esc: encode sounds as trained, or in batches as the benchmark's authors did",
        (BENCHMARK,),
        choices=AUDIO_MODES,
        shown=AUDIO_MODES[0],
        group=DETAILS,
    )
    method: str = option(
        "",
        "adaptation method",
        (*WITH_METHODS, SERVE),
        metavar="NAME",
        shown=f"{METHOD}; contest: {CONTEST_METHOD}",
    )
    set: Mapping[str, Any] = option(
        {}, "a hyper-parameter of the method; may be repeated", WITH_METHODS, kind="assignments", metavar="KEY=VALUE"
    )
    select: str = option(
        "",
        "choose hyper-parameters that --set leaves open on held-out shots, or a validation set",
        (TRAIN, *BENCHMARKS),
        choices=("support", "validation", "none"),
        shown="none; --benchmark: support",
    )
    shots: int = option(
        4,
        "training photos per class, fewer where there are fewer; 'all'; or 0 for methods that need none",
        (*WITH_METHODS, EXTRACT, SERVE),
        kind="counts",
        metavar="K",
        low=0,
        high=ALL_SHOTS,
        shown="4; --serve: 20",
        words={"all": ALL_SHOTS},
        several=(*BENCHMARKS, EXTRACT),
        list_name="shot_counts",
    )
    strict: bool = option(
        False,
        "refuse classes with fewer photos than shots, and unreadable shots",
        (TRAIN, BENCHMARK, EXTRACT),
        kind="switch",
    )
    seed: int = option(
        0,
        "seed of the shots and of everything else random",
        (*WITH_METHODS, EXTRACT, SERVE),
        kind="counts",
        metavar="N",
        low=0,
        high=2**63 - 1,
        shown="0; --benchmark: 1",
        several=BENCHMARKS,
        list_name="seeds",
    )
    views: int = option(
        0,
        "augmented views per training photo, for methods that use them",
        (*ON_RUNS, BENCHMARK),
        kind="whole",
        metavar="N",
        low=0,
        high=1000,
    )
    split: Literal["A", "B"] = option("A", "test set and class list of the contest", ON_DATA, choices=("A", "B"))
    support: str = option("random", "list of the shots; or 'first', 'random'", ON_RUNS, metavar="LIST.txt")
    layout: str = option(
        "", "what the folders are, where that is ambiguous", ON_DATA, choices=LAYOUTS, shown="inferred"
    )
    follow_links: bool = option(False, "allow photos that are links out of the data folder", ON_DATA, kind="switch")
    prompts: str = option(
        "", "prompt set: a name or a YAML file", ON_PHOTOS, metavar="NAME", shown="seed; sounds: sound"
    )
    class_names: str = option(
        "",
        "YAML file of 'class: words' lines, for names without meaning",
        ON_PHOTOS,
        metavar="FILE",
        shown="class_names.yaml in the data folder",
    )
    images: tuple[str, ...] = option(
        (),
        "classify these photos or sounds, and those in these folders",
        (CLASSIFY,),
        kind="texts",
        metavar="PATH",
    )
    classes: str = option(
        "",
        'with --images, or features in parts: choose between these names, such as "cat, dog", or those of a text file, '
        "without training",
        (CLASSIFY, PREDICT),
        metavar="NAMES",
    )
    labels: str = option("", "the test photos' labels", (EVALUATE,), metavar="FILE")
    holdout: int | None = option(
        None,
        "evaluate on N unused training photos per class (0: all)",
        (EVALUATE,),
        kind="whole",
        metavar="N",
        low=0,
        shown="20, where there are no labels",
    )
    features: tuple[str, ...] = option(
        (), "feature files instead of photos", (BENCHMARK_FILES,), kind="texts", metavar="FILE.npz", group=_BENCHMARK
    )
    resample: bool = option(
        False,
        "each seed draws its shots from the file's largest training set",
        (BENCHMARK_FILES,),
        kind="switch",
        group=_BENCHMARK,
    )
    unseen: tuple[float, ...] = option(
        (),
        "share of the classes without shots, or several; reports base (with shots) and new",
        BENCHMARKS,
        kind="numbers",
        metavar="SHARE",
        low=0.001,
        high=0.999,
        shown="none; with --protocol: 0.5",
        group=_BENCHMARK,
    )
    protocol: str = option(
        "",
        "which classes compete for a photo if some have no shots: all; base-to-new: its group's. Or imagenet-esc",
        BENCHMARKS,
        choices=PROTOCOLS,
        shown=PROTOCOLS[0],
        group=_BENCHMARK,
    )
    noise: tuple[float, float] = option(
        (0.0, 0.0),
        "standard deviation of Gaussian noise on the normalised training photos; a second one for the test photos",
        (BENCHMARK,),
        kind="other",
        metavar="STD",
        shown="none",
        parse=parse_noise,
        group=DETAILS,
    )
    tasks: int = option(
        0,
        "score on N tasks with queries of a few classes, for transductive methods",
        BENCHMARKS,
        kind="whole",
        metavar="N",
        low=2,
        high=100_000,
        shown="all queries at once",
        group=_BENCHMARK,
    )
    queries: int = option(
        75,
        "with --tasks: queries per task, fewer where the classes have fewer",
        BENCHMARKS,
        kind="whole",
        metavar="N",
        low=1,
        high=1_000_000,
        group=DETAILS,
    )
    effective_classes: tuple[int, int] = option(
        (3, 10),
        "with --tasks: number of classes in a task, or its range",
        BENCHMARKS,
        kind="other",
        metavar="K-L",
        shown="3-10",
        parse=parse_effective_classes,
        group=DETAILS,
    )
    out: str = option(
        "results/table.csv",
        "table of the cells, or page of the photos",
        (*BENCHMARKS, SEARCH, DUPLICATES),
        metavar="FILE",
        shown="results/table.csv, no page",
        group=_BENCHMARK,
    )
    resume: bool = option(False, "continue a stopped training through CLIP", (TRAIN,), kind="switch", group=DETAILS)
    shard: Part | None = option(  # noqa: RUF009  (ruff takes a Part for mutable)
        None,
        "one of n processes that share the encoding and --cache; the last one writes",
        (EXTRACT, EXTRACT_PARTS, PREDICT),
        kind="other",
        metavar="i/n",
        parse=parse_part,
        group=DETAILS,
    )
    engine: str = option(
        "local",
        "where the parts, or the benchmark's cells, are computed: in this process, on Ray, or as a Slurm array",
        (EXTRACT_PARTS, *BENCHMARKS),
        kind="other",
        metavar="local|ray|ray://HEAD|slurm",
        parse=parse_engine,
        group=DETAILS,
    )
    run: str = option("", "run folder", ON_RUNS, metavar="DIR", shown=f"{RUNS}/…, docs/output.md", group=DETAILS)
    device: str = option(
        "auto",
        "where Jittor computes",
        (*WITH_METHODS, EXTRACT, EXTRACT_PARTS, SEARCH, INSPECT, SERVE, DOCTOR),
        choices=DEVICES,
        group=DETAILS,
    )
    precision: str = option(
        "float32",
        "of CLIP's matmuls; bfloat16: CUDA, and CPUs with AVX-512 BF16 or AMX; float16: CUDA",
        (*ON_PHOTOS, EXTRACT_PARTS),
        choices=PRECISIONS,
        group=DETAILS,
    )
    batch_size: int = option(
        0,
        "photos per forward pass",
        (*ON_PHOTOS, EXTRACT_PARTS),
        kind="whole",
        metavar="N",
        low=0,
        high=8192,
        shown="by device",
        group=DETAILS,
    )
    workers: int = option(
        -1,
        "decoding processes; 0: threads",
        ON_PHOTOS,
        kind="whole",
        metavar="N",
        low=-1,
        high=256,
        shown="by photos and cores",
        group=DETAILS,
    )
    exif: str = option(
        "apply",
        "apply the EXIF orientation of photos, or keep them as stored",
        (*ON_PHOTOS, EXTRACT_PARTS),
        choices=EXIF,
        group=DETAILS,
    )
    transparent: str = option(
        "white",
        "background of transparent pixels; drop: the colours stored under them",
        (*ON_PHOTOS, EXTRACT_PARTS),
        choices=TRANSPARENT,
        group=DETAILS,
    )
    jpeg: str = option(
        "exact",
        "reduced: decode large JPEGs at a half, a quarter or an eighth, which is faster; features change slightly",
        (*ON_PHOTOS, EXTRACT_PARTS),
        choices=JPEG,
        group=DETAILS,
    )
    white_level: int = option(
        0,
        "white in 16-bit photos that do not declare it, such as 1023",
        (*ON_PHOTOS, EXTRACT_PARTS),
        kind="whole",
        metavar="N",
        low=255,
        high=65535,
        shown="inferred from the data set",
        group=DETAILS,
    )
    cache: str = option(
        "results/features", "folder of features and converted weights", WITH_NETWORK, metavar="DIR", group=DETAILS
    )
    top: int = option(
        5,
        "ids per line of the result; photos that are found",
        (PREDICT, CLASSIFY, SEARCH, CHECK),
        kind="whole",
        metavar="K",
        low=1,
        shown="5; search: 20",
        group=DETAILS,
    )
    part_size: int = option(
        PART_PHOTOS,
        "photos per part of a folder or list; a tar file is a part",
        (EXTRACT_PARTS,),
        kind="whole",
        metavar="N",
        low=1,
        high=1_000_000,
        group=DETAILS,
    )
    stored: str = option(
        "float32", "type of the stored features", (EXTRACT_PARTS,), choices=("float32", "float16"), group=DETAILS
    )
    index: bool = option(
        False,
        "look through an approximate index, which is built if there is none: for many searches in millions of photos",
        (SEARCH, DUPLICATES),
        kind="switch",
    )
    least: float = option(
        0.95,
        "cosine from which two photos are nearly the same",
        (DUPLICATES,),
        kind="number",
        metavar="COSINE",
        low=0.1,
        high=1,
    )
    on_bad_image: str = option(
        "fallback",
        "for an unreadable test photo: stop, or write the most probable classes over all photos",
        (PREDICT,),
        choices=("stop", "fallback"),
        group=DETAILS,
    )
    reject: float | None = option(
        None,
        "share of photos of the classes that may be marked as unknown, so that others are (docs/trust.md)",
        (EVALUATE, PREDICT, CLASSIFY),
        kind="number",
        metavar="RATE",
        low=0.001,
        high=0.999,
        shown="none",
    )
    learning_curve: bool = option(
        False,
        "also estimate top-1 at 1, 2, 4, … of the shots, from the shots alone",
        (EVALUATE,),
        kind="switch",
    )
    language: str = option(
        "en",
        "language of the report",
        (*WITH_METHODS, SEARCH, DUPLICATES),
        choices=LANGUAGES,
        group=DETAILS,
    )
    project: str = option(
        "", "folder of the page's labels and trained run", (SERVE,), metavar="DIR", shown=f"{PROJECTS}/…"
    )
    port: int = option(
        8000,
        "port of the page",
        (SERVE,),
        kind="whole",
        metavar="N",
        low=1,
        high=65535,
        shown="8000, or the next that is free",
    )
    host: str = option(
        "127.0.0.1",
        "address of the page; others than this machine's can be reached from elsewhere, by a token in the address",
        (SERVE,),
        metavar="ADDRESS",
        group=DETAILS,
    )
    given: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    shot_counts: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for item in OPTIONS.values():
            value = getattr(self, item.name)
            if value != item.default and item.parse is None:
                item.check(value)
        for key in self.set:
            if not isinstance(key, str):
                raise UsageError(f"set: {key!r} is not a hyper-parameter.", "Write key: value, such as ratio: 0.3.")
        if "seed" in self.set:
            raise UsageError("'seed' is not a hyper-parameter.", "Use --seed.")
        if self.labels and self.holdout is not None:
            raise UsageError("--labels and --holdout cannot be combined.", "Give one of them.")
        if self.audio and self.photos:
            raise UsageError(
                "--audio is for photos and --photos for sounds, but --data is one of them.", "Give one of the two."
            )

    @property
    def weights_or_default(self) -> str:
        """The weights to load."""
        return self.weights or (SAMPLE if self.data == SAMPLE else self.parts.get("weights", DEFAULT_WEIGHTS))

    @cached_property
    def parts(self) -> dict[str, Any]:
        """The manifest of the data, if these are features in parts; empty for others."""
        from jclip_adapter.data.parts import is_parts, read_manifest  # here, as --help needs no data sets

        return read_manifest(Path(self.data)) if is_parts(Path(self.data)) else {}

    @cached_property
    def kind(self) -> FileKind:
        """What is classified. A folder with photos and sounds holds photos, unless --photos says otherwise."""
        if self.audio or self.classes or self.data == SAMPLE or self.parts:
            return "photo"
        from jclip_adapter.data.sets.kind import find_kind  # here, as --help needs no data sets

        return "sound" if self.photos else find_kind(Path(self.data))

    @cached_property
    def method_or_default(self) -> str:
        """The method to train."""
        if self.method or self.classes:
            return self.method or ZERO_SHOT
        from jclip_adapter.data.sets.kind import is_contest  # here, as --help needs no data sets

        return CONTEST_METHOD if self.data == SAMPLE or is_contest(Path(self.data)) else METHOD

    @property
    def prompts_or_default(self) -> str:
        """The prompt set to load."""
        return self.prompts or self._usual_prompts

    @property
    def _usual_prompts(self) -> str:
        return "sound" if self.kind == "sound" else "seed"

    @property
    def reading(self) -> Reading:
        """How photo files are read."""
        return Reading(self.exif, self.transparent, self.white_level, self.jpeg)

    @property
    def run_folder(self) -> Path:
        """The folder of the run: data, weights, method, shots, seed, and each other setting that is not the default.

        Hyper-parameters are not in the name. Data, weight and prompt files outside the working directory add a digest
        of their path, support lists one of their content, so that files of the same name do not share a folder.
        """
        if self.run:
            return Path(self.run)
        count = "all" if self.shots == ALL_SHOTS else self.shots
        shots = f"{count}shot-seed{self.seed}"
        if self.support != "random":
            shots = f"{count}first" if self.support == "first" else f"support-{_list_label(self.support)}"
        parts = (
            SAMPLE if self.data == SAMPLE else _place_label(self.data),
            *([self.split] if self.split != OPTIONS["split"].default else []),
            _label(self.weights_or_default),
            *([f"as-{_label(self.model_config)}"] if self.model_config else []),
            *([_label(self.prompts)] if self.prompts_or_default != self._usual_prompts else []),
            self.method_or_default,
            shots,
            *([f"{self.views}views"] if self.views else []),
            *([self.precision] if self.precision != "float32" else []),
            *([f"exif-{self.exif}"] if self.exif != "apply" else []),
            *([f"on-{self.transparent}"] if self.transparent != "white" else []),
            *([f"white-{self.white_level}"] if self.white_level else []),
            *(["jpeg-reduced"] if self.jpeg != "exact" else []),
            *([f"with-{_label(self.auxiliary)}"] if self.auxiliary else []),
            *([f"on-{_label(self.encoder)}"] if self.encoder else []),
            *([f"hearing-{_label(self.audio)}"] if self.audio else []),
            *([f"seeing-{_label(self.photos)}"] if self.photos else []),
        )
        return RUNS / "-".join(parts)

    @property
    def inspection_folder(self) -> Path:
        """Where `inspect` writes."""
        return INSPECTIONS / (SAMPLE if self.data == SAMPLE else _place_label(self.data))

    @property
    def project_folder(self) -> Path:
        """What `serve` works in."""
        return (
            Path(self.project)
            if self.project
            else PROJECTS / (SAMPLE if self.data == SAMPLE else _place_label(self.data))
        )

    def of(self, command: str) -> dict[str, Any]:
        """The values of a command's options, by name."""
        return {name: getattr(self, name) for name, item in OPTIONS.items() if command in item.commands}


OPTIONS = options_of(Settings)
GENERAL = (  # options of the command line alone
    Option(
        "config",
        "",
        "YAML file with any of these settings; flags win",
        tuple(name for name in EVERY if name in {*ON_DATA, *WITH_NETWORK, BENCHMARK_FILES}),
        metavar="FILE",
        group=DETAILS,
    ),
    Option(
        "dry_run",
        False,
        "show how the data set is read, and do nothing else",
        tuple(name for name in ON_PHOTOS if name != SERVE),
        kind="switch",
        group=DETAILS,
    ),
    Option("quiet", False, "no messages, only results and errors", EVERY, kind="switch", group=DETAILS),
)


def _label(value: str) -> str:
    """A path or a name, for a run folder's name."""
    return _place_label(value) if Path(value).exists() else _plain(value)


def _plain(value: str) -> str:
    return re.sub(r"[^\w.@+]+", "-", value)


def _place_label(value: str) -> str:
    """The name of a file or folder; with a digest of its path unless it is in the working directory."""
    path, here = Path(os.path.abspath(value)), Path.cwd()  # noqa: PTH100  (resolve would follow links)
    place = str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
    name = _plain(path.name)
    return name if name == place else f"{name}@{hashlib.sha256(os.fsencode(place)).hexdigest()[:6]}"


def _list_label(value: str) -> str:
    """The name of a support list and a digest of its content; reading a missing list raises later."""
    path = Path(value)
    content = path.read_bytes() if path.is_file() else b""
    return f"{_plain(path.stem)}@{hashlib.sha256(content).hexdigest()[:6]}"


def build_settings(flags: Mapping[str, Any], config: str = "", commands: Collection[str] = EVERY) -> Settings:
    """Settings from flags, a YAML file and defaults, in this order of precedence.

    Args:
        flags: Values by option name; absent or None where not given.
        config: Path of a YAML file with the options' names as keys; empty for none. Keys without effect for the
            commands are logged in one line and ignored, so that one file can serve several commands.
        commands: The commands that run.

    Returns:
        The settings.

    Raises:
        UsageError: an unknown key, a value of the wrong type, or a flag without effect.
    """
    values = _read_config(Path(config), commands) if config else {}
    typed = {name: value for name, value in flags.items() if value is not None}
    for name in typed:
        refuse_without_effect(OPTIONS[name], commands)
    if "set" in values and "set" in typed:
        typed["set"] = {**values["set"], **typed["set"]}
    given = {**values, **typed}
    return Settings(**_apart(given, commands), given=frozenset(given))


def names_in(config: str) -> frozenset[str]:
    """Names of the options that a YAML file sets to a true value."""
    return frozenset(str(key).replace("-", "_") for key, value in read_yaml_mapping(Path(config)).items() if value)


def _read_config(path: Path, commands: Collection[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    idle = []
    for key, value in read_yaml_mapping(path).items():
        name = str(key).replace("-", "_")
        if name not in OPTIONS:
            raise UsageError(f"{path} has an unknown key '{key}'.", suggest(name, OPTIONS))
        checked = OPTIONS[name].check(value, f"{path}: {name}")
        if has_effect(OPTIONS[name], commands):
            values[name] = checked
        else:
            idle.append(str(key))
    if idle:
        logger.info("%s: no effect with %s: %s", path, " and ".join(commands), ", ".join(idle))
    return values


def _apart(given: Mapping[str, Any], commands: Collection[str]) -> dict[str, Any]:
    """Field values: options that may be lists give one value, or a list for commands that take one."""
    values = dict(given)
    for item in OPTIONS.values():
        if item.list_name and item.name in values:
            several = values.pop(item.name)
            if set(item.several).isdisjoint(commands):
                if len(several) > 1:
                    listed = ",".join(map(str, several))
                    takers = ", ".join(item.several)
                    raise UsageError(
                        f"{item.flag}: expected one value, got {listed}.", f"Only {takers} take several values."
                    )
                values[item.name] = several[0]
            else:
                values[item.list_name] = several
    return values


def parse_assignments(pairs: list[str]) -> dict[str, str]:
    """Parse `--set key=value` arguments.

    >>> parse_assignments(["ratio=0.3", "epochs=5"])
    {'ratio': '0.3', 'epochs': '5'}

    Raises:
        UsageError: one has no "=" or no key, or a key is given twice.
    """
    values: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key.strip():
            raise UsageError(f"--set {pair}: expected key=value.", "Write --set key=value, such as --set ratio=0.3.")
        if key.strip() in values:
            raise UsageError(f"--set gives '{key.strip()}' twice.", "Keep one of them.")
        values[key.strip()] = value.strip()
    return values
