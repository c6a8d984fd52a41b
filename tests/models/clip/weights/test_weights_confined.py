"""Pickled weights are read by a process of their own, once."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.reliability.hostile_files import KEYS, chain, entry, nested, storage, windowed
from jclip_adapter.core.errors import SetupError, UsageError, WeightsError
from jclip_adapter.models.description import find as configuration
from jclip_adapter.models.weights import KNOWN, confined, download, load_weights, read_state_dict
from jclip_adapter.storage import sha256_file
from tests import ROOT

pytestmark = pytest.mark.confined

GENUINE = ROOT / "tests/golden/weights"
FILE = GENUINE / "jclip-torch.pkl"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The processes that are started during the test."""
    calls: list[Any] = []
    run = subprocess.run

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return run(*arguments, **options)

    monkeypatch.setattr(subprocess, "run", counted)
    return calls


def instead(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let the process read weights by other code than ours."""
    setup = "import sys; sys.path[:] = {path!r}; from jclip_adapter.models.weights import confined; "
    lines = f"exec({code!r}); confined.read_weight_file = read; sys.exit(confined.serve())"
    monkeypatch.setattr(confined, "_CODE", setup + lines.replace("{", "{{").replace("}", "}}"))


FORMS = {
    "jclip-torch.pkl": ("jittor", "open_clip"),
    "zip.pt": ("torch", "open_clip"),
    "hugging_face.bin": ("torch", "hugging_face"),
    "hugging_face.safetensors": ("safetensors", "hugging_face"),
}


def same(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return list(found) == list(wanted) and all(np.array_equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("name", FORMS)
def test_the_numbers_are_the_reader_s(name: str, tmp_path: Path) -> None:
    wanted = read_state_dict(GENUINE / name)
    for cache in (None, tmp_path, tmp_path):
        path, digest, state, origin = load_weights(GENUINE / name, cache)
        assert (origin.form, origin.layout) == FORMS[name]
        assert (path, digest) == (GENUINE / name, sha256_file(GENUINE / name))
        assert sorted(state) == sorted(wanted)
        assert all(np.array_equal(state[key], wanted[key]) for key in wanted)


def test_a_second_start_needs_no_process(tmp_path: Path, started: list[Any]) -> None:
    first = load_weights(FILE, tmp_path).state
    assert len(started) == 1
    again = load_weights(FILE, tmp_path).state
    assert len(started) == 1
    assert same(again, first)
    name = f"{sha256_file(FILE)[:32]}-{confined._FORMAT}.safetensors"
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [name]


def test_safetensors_need_no_process_and_are_not_kept(tmp_path: Path, started: list[Any]) -> None:
    load_weights(GENUINE / "hugging_face.safetensors", tmp_path)
    assert started == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied"])
def test_a_damaged_copy_is_made_again(
    damage: str, tmp_path: Path, started: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    first = load_weights(FILE, tmp_path).state
    kept = next((tmp_path / "weights").iterdir())
    sound = kept.read_bytes()
    first = {name: value.copy() for name, value in first.items()}
    changed = sound[:-1] + bytes([sound[-1] ^ 1]) if damage == "flipped" else sound[: 100 * (damage == "cut")]
    kept.unlink()
    kept.write_bytes(changed)
    assert same(load_weights(FILE, tmp_path).state, first)
    assert f"{kept} is damaged" in caplog.text
    assert len(started) == 2
    assert kept.read_bytes() == sound


def test_another_file_is_not_taken_for_the_first(tmp_path: Path) -> None:
    load_weights(FILE, tmp_path)
    shutil.copy(GENUINE / "half.pt", tmp_path / "jclip-torch.pkl")
    other = load_weights(tmp_path / "jclip-torch.pkl", tmp_path).state
    assert same(dict(sorted(other.items())), dict(sorted(read_state_dict(GENUINE / "half.pt").items())))


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(SetupError, match=r"cannot write .*Not a directory"):
        load_weights(FILE, tmp_path / "cache")
    assert sorted(load_weights(FILE).state) == sorted(read_state_dict(FILE))


def test_strays_are_swept(tmp_path: Path) -> None:
    stray = tmp_path / "weights" / ".x.safetensors.0123456789ab.partial"
    stray.parent.mkdir()
    stray.touch()
    os.utime(stray, (0, 0))
    load_weights(FILE, tmp_path)
    assert not stray.exists()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def read(path): bytearray(8 << 30)", r"takes more than 512 MB of memory"),
        ("def read(path): import os; os.kill(os.getpid(), 9)", r"died \(SIGKILL\)"),
        ("def read(path): import os; os._exit(3)", r"died \(status 3\)"),
        ("def read(path): raise KeyError(path)", r"died \(status 1\)"),
    ],
)
def test_a_process_that_dies_is_told_in_one_line(
    code: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead(monkeypatch, code)
    with pytest.raises(WeightsError, match=message) as caught:
        load_weights(FILE, tmp_path)
    assert "\n" not in str(caught.value)
    assert str(FILE) in caught.value.message
    assert not list(tmp_path.rglob("*.safetensors"))


def test_endless_computing_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, "def read(path):\n while True: pass")
    monkeypatch.setattr(confined, "_SECONDS", 1)
    with pytest.raises(WeightsError, match="exceeded its time limit"):
        load_weights(FILE, tmp_path)


def test_a_file_that_claims_huge_tensors(tmp_path: Path) -> None:
    claims = {
        "storage": entry(nested(chain(storage(1 << 40), KEYS, (1 << 40).to_bytes(8, "little") + bytes(8)))),
        "shape": windowed(shape=b"J\xff\xff\xff\x7f\x85", strides=b"K\x00\x85"),
    }
    for name, data in claims.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(WeightsError, match=name):
            load_weights(tmp_path / name, tmp_path)


def test_the_reader_s_own_words_come_through(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(entry(b"cos\nsystem\n(X\x04\x00\x00\x00truetR"))
    with pytest.raises(WeightsError, match=r"os\.system") as caught:
        load_weights(tmp_path / "x.pkl", tmp_path)
    with pytest.raises(WeightsError) as direct:
        read_state_dict(tmp_path / "x.pkl")
    assert (caught.value.message, caught.value.hint) == (direct.value.message, direct.value.hint)


def test_no_process_can_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confined.sys, "executable", str(tmp_path / "none"))
    with pytest.raises(WeightsError, match="no child process"):
        load_weights(FILE)


def test_a_process_that_answers_nonsense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confined, "_CODE", "print('[1, 2]')")
    with pytest.raises(WeightsError, match="status 0"):
        load_weights(FILE)


def test_convert_goes_through_a_process(tmp_path: Path, started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "VOCABULARY", 11)  # of the genuine files
    confined.convert(FILE, tmp_path / "x.safetensors", "openai")
    assert len(started) == 1
    confined.convert(tmp_path / "x.safetensors", tmp_path / "y.safetensors")
    assert len(started) == 1
    with pytest.raises(UsageError):
        confined.convert(FILE, tmp_path / "x.bin")
    with pytest.raises(SetupError, match="cannot write"):
        confined.convert(FILE, FILE / "x.safetensors")


def test_known_weights_have_to_be_the_published_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(download.FOLDER_VARIABLE, str(tmp_path))
    shutil.copy(GENUINE / "zip.pt", tmp_path / "RN50.pt")
    with pytest.raises(WeightsError, match=r"RN50\.pt is damaged or not OpenAI's"):
        load_weights("RN50")
    assert load_weights(tmp_path / "RN50.pt").state  # by path they are somebody's own
    digest = sha256_file(GENUINE / "zip.pt")
    monkeypatch.setattr(download, "KNOWN", {**KNOWN, "RN50": download.KnownWeights("RN50", digest)})
    assert load_weights("RN50").state


def test_what_the_process_said_is_kept_for_debugging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    instead(monkeypatch, "def read(path): raise KeyError('whatever')")
    with caplog.at_level(logging.DEBUG), pytest.raises(WeightsError):
        load_weights(FILE)
    assert "KeyError: 'whatever'" in caplog.text
