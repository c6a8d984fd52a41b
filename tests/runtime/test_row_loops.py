"""Compiled loops over rows compute what numpy does, and are compiled once."""

import functools
import re
import shutil
import threading
import time

import numpy as np
import pytest

from jclip_adapter.core.task import normalise, softmax
from jclip_adapter.evaluation.metrics import top_k_ids
from jclip_adapter.runtime import row_loops, shared_library
from jclip_adapter.runtime.row_loops import MOST, loops, normalised

FLAGS = ["-O1"]
FLUSH = """
#ifdef __SSE2__
#include <immintrin.h>
extern "C" void flush() { _mm_setcsr(_mm_getcsr() | 0x8040); }
#else
extern "C" void flush() {}
#endif
"""
HALVES = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


def somewhere(rows, offset=1):
    """The same rows at an address that is not a multiple of their numbers' size."""
    memory = bytearray(rows.nbytes + offset)
    memory[offset:] = rows.tobytes()
    return np.frombuffer(memory, rows.dtype, offset=offset).reshape(rows.shape)


def widened_beside_one(halves):
    return normalised(np.stack([halves, np.ones_like(halves)], axis=1))[0][:, 0]


@pytest.mark.parametrize("flush", [False, True], ids=["", "numbers below the normal ones are taken for zero"])
def test_every_half_is_widened(flush, tmp_path):
    """Jittor lets the processor flush small floats to zero, in the thread that imports it; halves are none of them."""
    halves = HALVES[np.isfinite(HALVES)]
    wide = halves.astype(np.float64)
    found = []

    def compute():
        if flush:
            shared_library.load("flush", FLUSH, tmp_path, "g++", FLAGS, "slow").flush()
        found.append(widened_beside_one(halves))

    thread = threading.Thread(target=compute)
    thread.start()
    thread.join()
    np.testing.assert_allclose(found[0], wide / np.sqrt(wide**2 + 1), rtol=3e-7)
    assert np.count_nonzero(found[0]) == len(halves) - 2


@pytest.fixture(params=["C++", "numpy"])
def how(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setattr(row_loops, "loops", lambda: None)


def test_rows_that_are_not_finite_are_told(how):
    pairs = np.stack([HALVES, np.ones_like(HALVES)], axis=1)
    _, finite = normalised(pairs)
    assert finite.tolist() == np.isfinite(HALVES).tolist()
    rows = np.float32([[1, 1e25], [-1e25, 1], [1, 1e18], [np.nan, 1], [1, -np.inf]])
    assert normalised(rows)[1].tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (3, 7), (9, 16), (5, 100), (40, 513)])
def test_rows_are_normalised(dtype, shape, how):
    rows = np.random.default_rng(4).standard_normal(shape).astype(dtype)
    rows[2:3] = 0
    wanted = normalise(rows)
    for given in (rows, somewhere(rows), np.asfortranarray(rows)):
        found, finite = normalised(given)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7)
        assert finite.all()
    assert not normalised(rows)[0][2:3].any()


def test_very_small_and_very_large_rows(how):
    rows = np.float32([[1e-30, 0], [3e-15, 4e-15], [3e15, 4e15]])
    np.testing.assert_allclose(normalised(rows)[0], normalise(rows), rtol=1e-6)


def check_best(scores, k, temperature):
    best, shares = loops().best(scores, k, temperature)
    assert best.tolist() == top_k_ids(scores, k).tolist()
    wanted = np.take_along_axis(softmax(scores.astype(np.float64) / temperature), best, axis=1)
    np.testing.assert_allclose(shares, wanted, rtol=3e-6, atol=1e-30)


@pytest.mark.parametrize("classes", [1, 2, 5, 15, 16, 17, 31, 32, 33, 48, 100, 374])
@pytest.mark.parametrize("values", ["any", "ties", "equal", "one above all", "far below zero"])
def test_the_best_classes_are_those_of_a_sort(classes, values):
    rng = np.random.default_rng(classes)
    scores = {
        "any": rng.standard_normal((20, classes)) * 8,
        "ties": rng.integers(0, 3, (20, classes)),
        "equal": np.full((20, classes), 7.5),
        "one above all": np.where(np.arange(classes) == classes // 2, 1e4, rng.standard_normal((20, classes))),
        "far below zero": rng.standard_normal((20, classes)) - 1e6,
    }[values].astype(np.float32)
    for k in {1, min(5, classes), min(MOST, classes)}:
        check_best(scores, k, 1.0)
        check_best(np.asfortranarray(scores), k, 3.5)


def test_probabilities_of_all_classes_add_up_to_one():
    scores = np.random.default_rng(0).standard_normal((1000, MOST)).astype(np.float32) * 30
    _, shares = loops().best(scores, MOST, 1.0)
    np.testing.assert_allclose(shares.astype(np.float64).sum(axis=1), 1, rtol=1e-6)


def three(folder, compiler="g++"):
    return shared_library.load("three", 'extern "C" int three() { return 3; }', folder, compiler, FLAGS, "slow").three()


@pytest.mark.parametrize("damage", ["", "end", "middle", "empty", "another"])
def test_a_library_is_compiled_once_and_again_if_it_is_damaged(damage, tmp_path):
    """The loader would run what a damaged library contains."""
    assert three(tmp_path / "new") == 3
    (path,) = (tmp_path / "new").iterdir()
    whole = path.read_bytes()
    spoilt = {
        "": whole,
        "end": whole[:-100],
        "middle": whole[:4096] + bytes(4096) + whole[8192:],
        "empty": b"",
        "another": b"\x7fELF" + bytes(5000),
    }[damage]
    other = tmp_path / "other"
    other.mkdir()
    (other / path.name).write_bytes(spoilt)
    before = (other / path.name).stat().st_ino
    assert three(other) == 3
    assert ((other / path.name).stat().st_ino == before) == (not damage)
    assert [each.name for each in other.iterdir()] == [path.name]


@pytest.mark.parametrize(("compiler", "why"), [("", "no g"), ("false", "1"), ("g++", "error"), ("none", "no none")])
def test_without_a_library_one_line_says_why(compiler, why, tmp_path, caplog):
    assert shared_library.load("broken", "not C++", tmp_path, compiler, FLAGS, "all is slow") is None
    assert list(tmp_path.iterdir()) == []
    (record,) = caplog.records
    assert re.match(f"all is slow, as its C.. cannot be used: .*{why}", record.getMessage())
    assert "\n" not in record.getMessage()


@pytest.mark.parametrize("search", [None, "", "/nowhere"])
@pytest.mark.parametrize("link", ["", "a link", "\udcff"])
def test_the_compiler_finds_its_linker_without_a_search_path(search, link, tmp_path, monkeypatch):
    compiler = shutil.which("g++")
    if link:
        (tmp_path / link).mkdir()
        (tmp_path / link / "g++").symlink_to(compiler)
        compiler = str(tmp_path / link / "g++")
    monkeypatch.delenv("PATH")
    if search is not None:
        monkeypatch.setenv("PATH", search)
    assert three(tmp_path / "libraries", compiler) == 3


def test_a_compiler_that_wrote_nothing_is_tried_again(tmp_path):
    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    arguments = ("three", 'extern "C" int three() { return 3; }', tmp_path / "libraries", str(compiler), FLAGS, "slow")
    assert shared_library.load(*arguments) is None
    compiler.unlink()
    compiler.symlink_to(shutil.which("g++"))
    assert shared_library.load(*arguments).three() == 3


def test_another_processor_has_its_own_library(tmp_path, monkeypatch):
    for name in ("one", "other"):
        monkeypatch.setattr(shared_library, "_instructions", lambda name=name: name)
        assert three(tmp_path) == 3
    assert len(list(tmp_path.iterdir())) == 2


def test_threads_wait_for_one_compilation(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(row_loops, "_loaded", functools.cache(lambda: calls.append(time.sleep(0.05))))
    threads = [threading.Thread(target=loops) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [None]


def test_loops_without_a_compiler(monkeypatch, tmp_path):
    monkeypatch.setattr(row_loops.planning, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(row_loops.planning, "compiler_path", str)
    assert row_loops._loaded.__wrapped__() is None
