"""Several processes share the encoding: each photo is encoded by one, the last to end writes what one alone would."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import ROOT
from jclip_adapter.core.errors import UsageError
from jclip_adapter.features import encoding as features
from jclip_adapter.features.encoding import image_store, photo_keys
from jclip_adapter.features.sharding import Part, Share, encode_part, parse_part
from jclip_adapter.features.store import FeatureStore
from jclip_adapter.models.clip.encoder import Encoder, load_encoder
from tests.conftest import TRAIN, Cli
from tests.methods.conformance.worlds import quick_values
from tests.tiny_contest import TESTS, WEIGHTS

SHOTS = 24
ALL = SHOTS + TESTS  # photos that --extract needs of the tiny contest
BATCH, ROWS = 2, 4
DETAILS = (*WEIGHTS, "--batch-size", BATCH, "--workers", 0, "--device", "cpu")
TUNING = "cross-modal-partial"
EXTRACT = ("--extract", "features.npz", *DETAILS)
PREDICT = ("--predict", "result.txt", *DETAILS)
# Runs the command line and logs each forward pass; instead of a certain pass it waits to be killed.
PROGRAM = """
import sys, time
from pathlib import Path
from jclip_adapter.features import encoding as features
from jclip_adapter.cli.app import main
from jclip_adapter.models.clip.encoder import Encoder

log, rows, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
features.SHARD_ROWS = rows
genuine, passes = Encoder.images, []

def images(self, pixels):
    if len(passes) == last:
        time.sleep(600)
    found = genuine(self, pixels)
    passes.append(len(pixels))
    log.write_text("".join(f"{count}\\n" for count in passes))
    return found

Encoder.images = images
sys.exit(main(sys.argv[4:]))
"""


def launch(log: str, *arguments: object, last: int = -1) -> subprocess.Popen[str]:
    words = [str(word) for word in (log, ROWS, last, *arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], env=environment, text=True, stdout=pipe, stderr=pipe
    )


def logged(log: str) -> list[int]:
    return [int(line) for line in Path(log).read_text().splitlines()] if Path(log).exists() else []


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Small shards, and the rows of each forward pass in this process."""
    monkeypatch.setattr(features, "SHARD_ROWS", ROWS)
    genuine, passes = Encoder.images, []

    def images(self: Encoder, pixels: np.ndarray) -> np.ndarray:
        passes.append(len(pixels))
        return genuine(self, pixels)

    monkeypatch.setattr(Encoder, "images", images)
    yield passes


def unsharded(cli: Cli, *command: object) -> dict[str, bytes]:
    """What the command writes without --shard, with a store of its own; the files are taken away again."""
    assert cli(*command, "--cache", "alone").status == 0
    names = ("features.npz", "result.txt", "result.zip", "result.rejects.txt")
    files = {path.name: path.read_bytes() for path in map(Path, names) if path.exists()}
    for name in files:
        Path(name).unlink()
    assert files
    return files


def check(files: dict[str, bytes]) -> None:
    assert {name: Path(name).read_bytes() for name in files} == files


# --- which photo belongs to which part -------------------------------------------------------------------------------

digests = st.lists(st.binary(min_size=1, max_size=4), max_size=60)


@given(digests, st.integers(1, 70), st.randoms(use_true_random=False))
def test_every_photo_belongs_to_one_part(keys: list[bytes], count: int, rng: object) -> None:
    """Whatever order the processes find the photos in, and however often one lies there."""
    parts = []
    for number in range(1, count + 1):
        rng.shuffle(keys)  # type: ignore[attr-defined]
        parts.append(Part(number, count).choose([*keys, *keys[:3]]))
    assert sorted(key for part in parts for key in part) == sorted(set(keys))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(-2, 12), st.integers(-2, 12))
def test_parts_are_numbered_from_one(number: int, count: int) -> None:
    text = f"{number}/{count}"
    if 1 <= number <= count:
        assert parse_part(text) == Part(number, count)
    else:
        with pytest.raises(UsageError, match=f"got {text}"):
            parse_part(text)


@pytest.mark.parametrize("text", ["", "1", "a/b", "1/2/3", "1.0/2", " 1/2", "1/2\n", "١/٢", "1/1000000"])
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="such as 1/8"):
        parse_part(text)


# --- processes -------------------------------------------------------------------------------------------------------


def test_two_processes_at_once(workplace: Path, cli: Cli) -> None:
    files = unsharded(cli, *EXTRACT)
    both = [launch(f"log{number}", *EXTRACT, "--shard", f"{number}/2") for number in (1, 2)]
    told = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert any("written: features.npz" in out for out, _ in told)
    assert [sum(logged(f"log{number}")) for number in (1, 2)] == [ALL // 2, ALL // 2]
    check(files)


def test_one_is_killed(workplace: Path, cli: Cli, encoded: list[int]) -> None:
    files = unsharded(cli, *EXTRACT)
    encoded.clear()
    passes = ROWS // BATCH + 1  # a whole shard, and a pass that the kill loses
    with launch("log", *EXTRACT, "--shard", "1/2", last=passes) as process:
        end = time.monotonic() + 120
        while len(logged("log")) < passes and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    other = cli(*EXTRACT, "--shard", "2/2")
    assert f" {ALL // 2 - ROWS} of {ALL} photos are missing" in other.out
    assert sum(encoded) == ALL // 2
    assert not Path("features.npz").exists()
    encoded.clear()
    assert cli(*EXTRACT, "--shard", "1/2").out == "written: features.npz\n"
    assert sum(encoded) == ALL // 2 - ROWS
    check(files)


def test_a_part_alone_writes_nothing(workplace: Path, cli: Cli, encoded: list[int]) -> None:
    files = unsharded(cli, *EXTRACT)
    outcome = cli(*EXTRACT, "--shard", "3/3")
    assert outcome.status == 0
    assert outcome.out == (
        "part 3 of 3 is done (11 photos); 23 of 34 photos are missing: the last part to finish writes features.npz, "
        "or this command without --shard.\n"
    )
    assert not Path("features.npz").exists()
    encoded.clear()
    again = cli(*EXTRACT, "--shard", "3/3")
    assert (again.out, encoded) == (outcome.out, [])
    assert cli(*EXTRACT).out == "written: features.npz\n"
    assert sum(encoded) == ALL - 11
    check(files)


def test_more_parts_than_photos(workplace: Path, cli: Cli, encoded: list[int]) -> None:
    outcome = cli(*PREDICT, "--method", "zero-shot", "--shard", "40/40")
    assert f"part 40 of 40 is done (0 photos); {TESTS} of {TESTS} photos are missing" in outcome.out
    assert not encoded
    assert not list(Path("results/features").glob("texts-*")), "a part that merges nothing needs no texts"


@pytest.mark.parametrize(
    ("method", "passes"),
    [("jclip-adapter", TESTS), ("em-dirichlet", TESTS), ("transclip", TESTS), (TUNING, 2 * TESTS)],
)
def test_predictions_are_those_of_one_process(
    method: str, passes: int, trained: Path, cli: Cli, encoded: list[int]
) -> None:
    """Of trained methods, of those that look at all photos at once, and of one whose own CLIP encodes them anew."""
    command = (*PREDICT, "--method", method)
    if method != "jclip-adapter":
        values = quick_values(method).items() if method == TUNING else ()
        flags = [word for key, value in values for word in ("--set", f"{key}={value}")]
        assert cli("--train", *DETAILS, "--method", method, *flags).status == 0
    files = unsharded(cli, *command)
    encoded.clear()
    for number in (2, 3):
        outcome = cli(*command, "--shard", f"{number}/3")
        assert (outcome.status, outcome.out[:11]) == (0, f"part {number} of 3")
        assert not Path("result.txt").exists()
    outcome = cli(*command, "--shard", "1/3")
    assert outcome.out.startswith("written: result.txt")
    assert sum(encoded) == passes
    check(files)
    encoded.clear()
    assert cli(*command, "--shard", "3/3").out == outcome.out, "late, it writes the same once more"
    assert not encoded
    check(files)


def test_photos_that_cannot_be_read_are_not_waited_for(trained: Path, cli: Cli, encoded: list[int]) -> None:
    """Neither those of another part, nor copies of them; what cannot even be opened belongs to none."""
    photos = Path("Dataset/TestSetA")
    for number in (3, 4, 5):
        (photos / f"image_{number}.jpg").write_bytes(b"no photo" + bytes([number // 2]))
    shutil.copy(photos / "image_1.jpg", photos / "image_2.jpg")
    files = unsharded(cli, *PREDICT)
    assert files["result.rejects.txt"].count(b"\n") == 3 + 1  # the last line is a checksum
    encoded.clear()
    outcomes = [cli(*PREDICT, "--shard", f"{number}/3") for number in (3, 1, 2)]
    assert [outcome.out[:8] for outcome in outcomes] == ["part 3 o", "part 1 o", "written:"]
    assert " of 8 photos are missing" in outcomes[0].out
    assert sum(encoded) == TESTS - 4
    check(files)
    encoder, paths = load_encoder("tiny.pkl", "cpu", BATCH), [photos / "image_1.jpg", photos / "gone.jpg"]
    assert encode_part([encoder], paths, Path("other"), 0, Part(1, 1)) == Share(Part(1, 1), 1, 1, 0)


def test_who_could_not_read_a_photo_may_have_been_wrong(trained: Path, cli: Cli, encoded: list[int]) -> None:
    """Such as for want of memory: the process that writes the result reads it itself."""
    files = unsharded(cli, *PREDICT)
    keys, _ = photo_keys(sorted(Path("Dataset/TestSetA").iterdir()))
    image_store(load_encoder("tiny.pkl", "cpu", BATCH), Path("results/features")).add_unreadable(keys)
    encoded.clear()
    assert cli(*PREDICT, "--shard", "1/2").out.startswith("written: result.txt")
    assert sum(encoded) == TESTS
    check(files)


def test_an_unreadable_shot_is_told_by_the_last(workplace: Path, cli: Cli) -> None:
    for path in Path("Dataset/TrainSet/Animal/Bear").iterdir():
        path.write_bytes(b"no photo")
    first, last = (cli(*EXTRACT, "--shard", f"{number}/2") for number in (1, 2))
    assert (first.status, last.status) == (0, 2)
    assert "no training photo of Animal_Bear can be read" in last.err
    assert not Path("features.npz").exists()


def test_augmented_copies_have_no_place_in_a_feature_file(workplace: Path, cli: Cli, encoded: list[int]) -> None:
    """Neither by a flag, which is refused, nor by a settings file, whose key is left out."""
    assert cli(*EXTRACT, "--views", 2).status == 2
    Path("c.yaml").write_text("views: 2\n")
    assert cli(*EXTRACT, "--config", "c.yaml").status == 0
    assert sum(encoded) == ALL


@pytest.mark.parametrize(
    "command",
    [
        TRAIN,
        (*TRAIN, "--predict"),
        ("--evaluate", "--predict"),
        ("--predict", "--images", "a.jpg"),
        ("--benchmark",),
        ("--list",),
        ("--check", "result.txt"),
    ],
    ids=" ".join,
)
def test_other_commands_have_no_parts(command: tuple[str, ...], workplace: Path, cli: Cli) -> None:
    outcome = cli(*command, "--shard", "1/2")
    assert outcome.status == 2
    alone = "error: --shard needs --extract or --predict alone. Run other commands separately.\n"
    assert outcome.err == alone or "--shard has no effect with" in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("value", ["0/2", "3/2", "a/b", "1/0", "2"])
def test_malformed_parts_are_refused_in_one_line(value: str, workplace: Path, cli: Cli) -> None:
    outcome = cli(*EXTRACT, "--shard", value)
    assert outcome.status == 2
    assert outcome.err.startswith(f"error: --shard: expected i/n with 1 <= i <= n, got {value}. Write --shard i/n")


# --- the store -------------------------------------------------------------------------------------------------------


def keys_of(*names: str) -> list[bytes]:
    return [hashlib.sha256(name.encode()).digest() for name in names]


def test_a_store_sees_what_others_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = FeatureStore(tmp_path / "store", 3), FeatureStore(tmp_path / "store", 3)
    first, second, third = keys_of("a", "b", "c")
    mine.add([first], np.ones((1, 3), np.float32))
    other.add([second], np.full((1, 3), 2, np.float32))
    other.add_unreadable([third])
    assert second not in mine
    read: list[str] = []
    genuine = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path.name) or genuine(path))
    mine.refresh()
    assert len(read) == 2, "its own is known"
    np.testing.assert_array_equal(mine.get([first, second]), [[1, 1, 1], [2, 2, 2]])
    assert mine.unreadable == {third}
    assert third not in mine
    mine.refresh()
    assert len(read) == 2


def test_a_damaged_shard_of_another_process_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mine, other = FeatureStore(tmp_path, 3), FeatureStore(tmp_path, 3)
    keys, rows = keys_of("a"), np.ones((1, 3), np.float32)
    other.add(keys, rows)
    (path,) = tmp_path.glob("*.npz")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    mine.refresh()
    assert "damaged" in caplog.text
    assert keys[0] not in mine
    assert not path.exists()
    other.add(keys, rows)
    mine.refresh()
    assert keys[0] in mine


def test_a_shard_that_another_process_discards_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(tmp_path, 3)
    monkeypatch.setattr(Path, "glob", lambda *_: [tmp_path / "gone.npz"])
    store.refresh()
    assert len(store) == 0
