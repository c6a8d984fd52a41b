"""What is computed again when one thing changes, and what is taken from the cache when nothing does.

Every row of the table changes a single thing of an extraction or a benchmark whose results are already stored, does it
again, and counts the photos, texts, augmented copies or benchmark cells that are really computed. A row fails when
that number is not the table's: a key that leaves something out gives 0 in place of a miss, a key that holds too much (a
path, a time) gives a miss in place of 0.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from tqdm import tqdm

from jclip_adapter.cli.commands import benchmark as benchmarking
from jclip_adapter.cli.settings import Settings
from jclip_adapter.core.task import Array
from jclip_adapter.data.texts.prompts import load_prompts
from jclip_adapter.evaluation import benchmark, provenance
from jclip_adapter.evaluation.query_tasks import QueryTasks
from jclip_adapter.features import encoding as features
from jclip_adapter.models.clip import encoder
from jclip_adapter.models.clip.encoder import Encoder, load_encoder
from jclip_adapter.storage import ANY, npz_bytes, read_safetensors, write_bytes, write_safetensors, write_text
from tests.random_weights import write_safe
from tests.tiny_contest import CLASSES, picture, write_contest

from . import outcome

PHOTOS, COPIES, SHARE = 6, 2, 0.5
DOMAINS = tuple(name.partition("_")[0] for name in CLASSES)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        group: What is stored: photos, texts, copies or cells.
        name: What changes.
        wanted: How many of them are to be computed: 0 for a hit.
        again: Does it again with the change; returns how many were computed.
    """

    group: str
    name: str
    wanted: int
    again: Callable[[], int]


class _Larger(Encoder):
    """Reads photos of twice the size, and halves them again."""

    @property
    def image_size(self) -> int:
        return 2 * self.model.config.image_resolution

    def images(self, pixels: Any) -> Array:
        return super().images(pixels[:, ::2, ::2])


class Extraction:
    """Photos, texts and augmented copies of a tiny CLIP in a store that holds them already.

    Args:
        folder: Of the photos, the weights and the store.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "features"
        (folder / "photos").mkdir(parents=True)
        self.paths = [folder / "photos" / f"{number}.png" for number in range(PHOTOS)]
        for number, path in enumerate(self.paths):
            picture(number, 50, 40).save(path)
        self.encoder = load_encoder(str(write_safe(folder / "tiny.safetensors")), "cpu", 8)
        self.photos()
        self.texts()
        self.copies()

    def photos(self, of: Encoder | None = None, paths: Sequence[Path] = ()) -> int:
        """How many photos are encoded."""
        return features.encode_photos(of or self.encoder, paths or self.paths, self.cache, workers=0).encoded

    def texts(self, of: Encoder | None = None, prompts: Any = None, names: Sequence[str] = CLASSES) -> int:
        """How many texts are encoded."""
        with _counted("texts") as rows:
            domains = [name.partition("_")[0] for name in names]
            features.encode_classes(of or self.encoder, prompts or load_prompts("seed"), names, domains, self.cache)
        return len(rows)

    def copies(
        self,
        of: Encoder | None = None,
        paths: Sequence[Path] = (),
        count: int = COPIES,
        seed: int = 0,
        share: float = SHARE,
    ) -> int:
        """How many augmented copies are encoded."""
        with _counted("images") as rows:
            features.encode_views(of or self.encoder, paths or self.paths, self.cache, count, seed, share)
        return len(rows)

    def elsewhere(self) -> list[Path]:
        """The photos, copied to another folder under other names."""
        folder = self.folder / "elsewhere"
        folder.mkdir(exist_ok=True)
        return [Path(shutil.copy(path, folder / f"x{path.name}")) for path in self.paths]

    def changed(self) -> list[Path]:
        """The photos, one of which has one byte more."""
        path = self.folder / "changed.png"
        path.write_bytes(self.paths[2].read_bytes() + b"\0")
        return [*self.paths[:2], path, *self.paths[3:]]

    def touched(self) -> list[Path]:
        """The photos, as if written today."""
        for path in self.paths:
            os.utime(path, (1, 1))
        return self.paths

    def other_weights(self) -> Encoder:
        """The weights with one bit flipped."""
        arrays, facts = read_safetensors(self.folder / "tiny.safetensors")
        arrays["visual.proj"].reshape(-1).view(np.uint8)[0] ^= 1
        write_safetensors(self.folder / "other.safetensors", arrays, facts, ANY)
        return load_encoder(str(self.folder / "other.safetensors"), "cpu", 8)

    def moved_weights(self) -> Encoder:
        """The same weights under another name."""
        path = shutil.copy(self.folder / "tiny.safetensors", self.folder / "moved.safetensors")
        return load_encoder(str(path), "cpu", 8)

    def tuned(self, key: str) -> Encoder:
        """The encoder with one of its arrays a little larger."""
        return self.encoder.tuned(lambda base: {key: np.float32(1.0001) * base[key]})

    def rows(self) -> Iterator[Row]:
        """What may change of an extraction."""
        texts = sum(len(load_prompts("seed").texts(name)) for name in CLASSES)
        copies = PHOTOS * COPIES
        image, text = "visual.proj", "text_projection"
        every: dict[str, tuple[int, Callable[..., int]]] = {
            "photos": (PHOTOS, self.photos),
            "texts": (texts, self.texts),
            "copies": (copies, self.copies),
        }
        for group, (count, again) in every.items():
            seen, read = int(group != "texts"), int(group == "texts")
            yield Row(group, "nothing", 0, again)
            yield Row(group, "weights: one bit", count, _after(again, self.other_weights))
            yield Row(group, "weights: another path", 0, _after(again, self.moved_weights))
            yield Row(group, "tuned image tower", seen * count, _after(again, lambda: self.tuned(image)))
            yield Row(group, "tuned text tower", read * count, _after(again, lambda: self.tuned(text)))
            yield Row(group, "arithmetic", count, _patched(encoder, "_ARITHMETIC", -1, again))
            yield Row(group, "preprocessing", seen * count, _patched(encoder, "VERSION", "other", again))
            larger = _Larger(self.encoder.model, self.encoder.weights, self.encoder.sha256, 8)
            yield Row(group, "image size", seen * count, partial(again, larger))
            yield Row(group, "nothing, after all of these", 0, again)
        for group, one in (("photos", 1), ("copies", COPIES)):
            again = every[group][1]
            yield Row(group, "another folder and other names", 0, _after_paths(again, self.elsewhere))
            yield Row(group, "other times", 0, _after_paths(again, self.touched))
            yield Row(group, "another order", 0, _after_paths(again, lambda: self.paths[::-1]))
            yield Row(group, "fewer photos", 0, _after_paths(again, lambda: self.paths[1:4]))
            yield Row(group, "one photo: one byte", one, _after_paths(again, self.changed))
            yield Row(group, "one photo more", one, _after_paths(again, self._one_more))
        yield Row("copies", "seed", copies, lambda: self.copies(seed=1))
        yield Row("copies", "share of the area", copies, lambda: self.copies(share=0.4))
        yield Row("copies", "one copy more of each", PHOTOS, lambda: self.copies(count=COPIES + 1))
        yield Row("copies", "one copy less of each", 0, lambda: self.copies(count=COPIES - 1))
        yield Row("texts", "prompts: one template", 2, lambda: self.texts(prompts=self._prompts("templates")))
        yield Row("texts", "prompts: one spelling", 1, lambda: self.texts(prompts=self._prompts("spellings")))
        yield Row("texts", "another order of classes", 0, lambda: self.texts(names=CLASSES[::-1]))
        yield Row("texts", "one class more", 1, lambda: self.texts(names=(*CLASSES, "Animal_Zebra")))

    def _one_more(self) -> list[Path]:
        """The photos and one that no store knows."""
        number = 100 + len(list(self.folder.glob("more*.png")))  # a new one each time
        path = self.folder / f"more{number}.png"
        picture(number, 50, 40).save(path)
        return [*self.paths, path]

    def _prompts(self, what: str) -> Any:
        """The prompts with another template for a domain of two classes, or another spelling of one class."""
        path = self.folder / f"{what}.yaml"
        text = {
            "templates": "base: seed\ntemplates:\n  Thu-dog: ['a drawing of a {}']\n",
            "spellings": "base: seed\nspellings:\n  Animal_Bear: grizzly\n",
        }
        write_text(path, text[what], ANY)
        return load_prompts(path)


class Cells:
    """Benchmark cells of a feature file, and of photos, that are computed already.

    Args:
        folder: Of the files; it becomes the process's, as cells lie below it.
        stage_of: The extraction's folder, whose weights are taken.
    """

    def __init__(self, folder: Path, stage_of: Path) -> None:
        folder.mkdir()
        os.chdir(folder)
        self.folder = folder
        self.weights = stage_of / "tiny.safetensors"
        self.other = stage_of / "other.safetensors"
        rng = np.random.default_rng(0)
        labels = np.repeat(np.arange(4), 2)
        self.arrays: dict[str, Any] = {
            "classnames": np.array(["a", "b", "c", "d"]),
            "text": rng.normal(size=(4, 8)).astype(np.float32),
            "train1_x": rng.normal(size=(4, 8)).astype(np.float32),
            "train1_y": np.arange(4),
            "train2_x": rng.normal(size=(8, 8)).astype(np.float32),
            "train2_y": labels,
            "test_x": rng.normal(size=(8, 8)).astype(np.float32),
            "test_y": labels,
            "logit_scale": np.float32(100),
        }
        self.file = folder / "toy.npz"
        write_bytes(self.file, npz_bytes(self.arrays), ANY)
        write_contest(folder / "Dataset", tests=3, per_class=2)
        self.on_file()
        self.on_photos()

    def on_file(self, path: Path | None = None, **changes: Any) -> int:
        """How many cells of the feature file are computed."""
        return _cells(Settings(set=changes.pop("given", {})), features=[str(path or self.file)], **changes)

    def on_photos(self, **changes: Any) -> int:
        """How many cells of the photos are computed."""
        settings = Settings(**{"weights": str(self.weights), "device": "cpu", "workers": 0, **changes})
        return _cells(settings, features=[])

    def _file(self, folder: str, **arrays: Any) -> Path:
        """The feature file with other arrays, in a folder of its own."""
        path = self.folder / folder / "toy.npz"
        write_bytes(path, npz_bytes({**self.arrays, **arrays}), ANY)
        return path

    def _nudged(self, name: str) -> Path:
        """The feature file with the last bit of one number flipped."""
        array = np.array(self.arrays[name])
        array.reshape(-1).view(np.uint8)[0] ^= 1
        return self._file(f"nudged-{name}", **{name: array})

    def _touched(self) -> int:
        os.utime(self.file, (1, 1))
        return self.on_file()

    def _nudge(self, name: str) -> int:
        return self.on_file(self._nudged(name))

    def rows(self) -> Iterator[Row]:
        """What may change of a benchmark."""
        on_file, on_photos = self.on_file, self.on_photos
        yield Row("cells", "nothing", 0, on_file)
        yield Row("cells", "another path", 0, lambda: on_file(self._file("copy")))
        yield Row("cells", "other times", 0, self._touched)
        yield Row("cells", "another order of methods", 0, lambda: on_file(methods="zero-shot,gda"))
        yield Row("cells", "a module that the method does not use", 0, _source("data.photos.tiff", on_file))
        yield Row("cells", "the method's code", 1, _source("methods.gda", on_file))
        yield Row("cells", "code that both methods use", 2, _source("methods.base", on_file))
        yield Row("cells", "hyper-parameter", 1, lambda: on_file(given={"alpha": "0.7"}))
        yield Row("cells", "seed", 2, lambda: on_file(seeds=[2]))
        yield Row("cells", "shots", 2, lambda: on_file(shots=[2]))
        yield Row("cells", "selection", 2, lambda: on_file(selection="support"))
        yield Row("cells", "share of unseen classes", 2, lambda: on_file(unseen=[0.5]))
        yield Row("cells", "base-to-new", 2, lambda: on_file(protocol="base-to-new"))
        tasks = QueryTasks(2, 4, 2, 2)
        yield Row("cells", "tasks of few classes", 2, lambda: on_file(tasks=tasks))
        yield Row("cells", "fewer queries in a task", 2, lambda: on_file(tasks=replace(tasks, queries=3)))
        yield Row("cells", "shots drawn anew", 2, lambda: on_file(resample=True))
        yield Row("cells", "one method more", 1, lambda: on_file(methods="gda,zero-shot,tip-adapter"))
        yield Row("cells", "a comment in the method's code", 0, _source("methods.gda", on_file, b"\n# more\n"))
        yield Row("cells", "code that raises and writes", 0, _source("storage.files", on_file))
        yield Row("cells", "the metrics' code", 2, _source("evaluation.metrics", on_file))
        yield Row("cells", "another numpy", 2, _package("numpy", on_file))
        yield Row("cells", "another scikit-learn, which neither uses", 0, _package("sklearn", on_file))
        for name in ("text", "train1_x", "test_x", "logit_scale"):
            yield Row("cells", f"feature file: one bit of {name}", 2, partial(self._nudge, name))
        swapped = np.array([1, 0, 2, 3])
        yield Row("cells", "feature file: labels", 2, lambda: on_file(self._file("labels", train1_y=swapped)))
        names = np.array(["a", "b", "c", "e"])
        yield Row("cells", "feature file: class names", 2, lambda: on_file(self._file("names", classnames=names)))
        half = self.arrays["test_x"].astype(np.float16)
        yield Row("cells", "feature file: half precision", 2, lambda: on_file(self._file("half", test_x=half)))
        yield Row("cells", "nothing, after all of these", 0, on_file)
        yield Row("cells of photos", "nothing", 0, on_photos)
        yield Row("cells of photos", "another folder", 0, lambda: on_photos(data=self._moved()))
        yield Row("cells of photos", "another place of the cache", 0, lambda: on_photos(cache="elsewhere"))
        yield Row("cells of photos", "weights: one bit", 2, lambda: on_photos(weights=str(self.other)))
        yield Row("cells of photos", "prompts", 2, lambda: on_photos(prompts="ensemble"))
        yield Row("cells of photos", "noise on training photos", 2, lambda: on_photos(noise=(0.3, 0.0)))
        yield Row("cells of photos", "noise on test photos", 2, lambda: on_photos(noise=(0.0, 0.3)))
        yield Row("cells of photos", "labels of the list", 2, self._relisted)
        yield Row("cells of photos", "one photo: another picture", 2, self._repainted)

    def _moved(self) -> str:
        """The data set, copied."""
        return str(shutil.copytree("Dataset", "moved/Dataset"))

    def _relisted(self) -> int:
        """Two classes with each other's photos."""
        text = Path("Dataset/classes.txt").read_text(encoding="utf-8")
        folder = Path(shutil.copytree("Dataset", "relisted/Dataset"))
        write_text(folder / "classes.txt", text.replace("_Bear 0", "_Bear 1").replace("_lion 1", "_lion 0"), ANY)
        lines = (folder / "train.txt").read_text(encoding="utf-8").splitlines()
        turn = {"0": "1", "1": "0"}
        pairs = [line.rsplit(" ", 1) for line in lines]
        write_text(folder / "train.txt", "".join(f"{path} {turn.get(label, label)}\n" for path, label in pairs), ANY)
        return self.on_photos(data=str(folder))

    def _repainted(self) -> int:
        """One training photo of each class replaced."""
        folder = Path(shutil.copytree("Dataset", "repainted/Dataset"))
        for number, path in enumerate(sorted((folder / "TrainSet").rglob("1.jpg"))):
            picture(5000 + number, 60, 40).save(path)
        return self.on_photos(data=str(folder))


def _cells(
    settings: Settings,
    *,
    features: Sequence[str],
    methods: str = "gda,zero-shot",
    shots: Sequence[int] = (1,),
    seeds: Sequence[int] = (1,),
    selection: str = "none",
    **others: Any,
) -> int:
    """Run a benchmark; how many of its cells are computed."""
    with mock.patch.object(benchmark, "run_cell", wraps=benchmark.run_cell) as computed:
        chosen: dict[str, Any] = {
            "features": tuple(features),
            "method": methods,
            "shot_counts": tuple(shots),
            "seeds": tuple(seeds),
        }
        given = frozenset({*settings.given, "method"})
        benchmarking.benchmark(replace(settings, **chosen, select=selection, given=given, **others))
    return int(computed.call_count)


@contextlib.contextmanager
def _counted(tower: str) -> Iterator[list[Any]]:
    """Collects the rows that go through one of the encoder's towers."""
    rows: list[Any] = []
    real = getattr(Encoder, tower)

    def counting(self: Encoder, batch: Any) -> Any:
        rows.extend(batch)
        return real(self, batch)

    with mock.patch.object(Encoder, tower, counting):
        yield rows


def _after(again: Callable[..., int], make: Callable[[], Encoder]) -> Callable[[], int]:
    """`again` with another encoder, made when it is time."""
    return lambda: again(make())


def _after_paths(again: Callable[..., int], make: Callable[[], list[Path]]) -> Callable[[], int]:
    """`again` with other photos, made when it is time."""
    return lambda: again(paths=make())


def _patched(module: Any, name: str, value: Any, again: Callable[[], int]) -> Callable[[], int]:
    """`again` with another value of a module's constant."""

    def changed() -> int:
        with mock.patch.object(module, name, value):
            return again()

    return changed


def _forget_code() -> None:
    provenance.code_digest.cache_clear()
    provenance._read.cache_clear()


def _source(module: str, again: Callable[[], int], more: bytes = b"\nmore = 1\n") -> Callable[[], int]:
    """`again` as if a module's source had one line more."""
    real = provenance._source

    def longer(name: str) -> bytes | None:
        source = real(name)
        return source + more if source is not None and name == f"jclip_adapter.{module}" else source

    return _forgetful(mock.patch.object(provenance, "_source", longer), again)


def _package(package: str, again: Callable[[], int]) -> Callable[[], int]:
    """`again` as if another version of a package were installed."""
    real = provenance._version
    other = mock.patch.object(provenance, "_version", lambda name: f"{real(name)}{' other' * (name == package)}")
    return _forgetful(other, again)


def _forgetful(patch: Any, again: Callable[[], int]) -> Callable[[], int]:
    def changed() -> int:
        _forget_code()
        try:
            with patch:
                return again()
        finally:
            _forget_code()

    return changed


def check(rows: Iterator[Row], trials: int) -> tuple[int, dict[str, int], list[str]]:
    """Go through rows.

    Args:
        rows: The rows, in an order that matters: they share a store.
        trials: How many at most.

    Returns:
        How many were tried, how many misses and hits were wanted, and what went otherwise.
    """
    wanted = {"miss": 0, "hit": 0}
    faults = []
    for row, _ in zip(tqdm(rows, desc="cache keys", unit="change"), range(trials), strict=False):
        wanted["miss" if row.wanted else "hit"] += 1
        found = row.again()
        if found != row.wanted:
            faults.append(f"{row.group}: {row.name}: {found} computed, wanted {row.wanted}")
    return sum(wanted.values()), wanted, faults


def run(trials: int = 10_000) -> outcome.Outcome:
    """Go through the table, or its first rows."""
    home = Path.cwd()
    tried, wanted = 0, {"miss": 0, "hit": 0}
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            extraction = Extraction(Path(folder).resolve() / "extraction")
            makers = (extraction.rows, lambda: Cells(Path(folder).resolve() / "cells", extraction.folder).rows())
            for make in makers:
                if tried < trials:
                    more, kinds, found = check(make(), trials - tried)
                    tried, faults = tried + more, faults + found
                    wanted = {kind: wanted[kind] + kinds[kind] for kind in wanted}
        finally:
            os.chdir(home)
    return outcome.Outcome(
        "cache-keys",
        f"{wanted['miss']} single changes of weights, preprocessing, prompts, photos, arithmetic, tuning, augmentation "
        f"and benchmark settings; {wanted['hit']} repetitions with other paths, times, orders or nothing changed",
        "a change misses, no change hits",
        f"{tried - len(faults)} of {tried} computed just what the table says",
        tried,
        len(faults),
        {"changes": wanted["miss"], "repetitions": wanted["hit"], "faults": faults},
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Go through the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000, help="rows of the table at most")
    parser.add_argument("--seed", type=int, default=0, help="has no effect: the table is always the same")
    arguments = parser.parse_args(argv)
    return outcome.write(run(arguments.trials))


if __name__ == "__main__":
    sys.exit(main())
