"""Genuine files of every kind give the numbers that PyTorch and Jittor put into them."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load, load_file, save_file

from benchmarks.reliability.hostile_pickles import GENUINE as FOLDER
from benchmarks.reliability.hostile_pickles import expected
from jclip_adapter import storage
from jclip_adapter.core.errors import SetupError, UsageError, WeightsError
from jclip_adapter.models.description import find as configuration
from jclip_adapter.models.weights import convert, read_state_dict, safetensors_file
from jclip_adapter.models.weights.names import to_openai
from jclip_adapter.models.weights.tensors import bfloat16_values
from jclip_adapter.storage import sha256_file
from tests import ROOT

EXPECTED = expected()


def test_every_genuine_file_is_expected() -> None:
    assert sorted(EXPECTED) == sorted(path.name for path in FOLDER.iterdir() if path.suffix != ".npz")
    assert len(EXPECTED) == 21


@pytest.mark.parametrize("file", EXPECTED)
def test_genuine_file(file: str) -> None:
    weights = read_state_dict(FOLDER / file)
    assert weights.keys() == EXPECTED[file].keys()
    for name, value in EXPECTED[file].items():
        assert weights[name].dtype == np.float32
        assert weights[name].flags.c_contiguous
        assert weights[name].shape == value.shape, name
        np.testing.assert_array_equal(weights[name], value)


@pytest.mark.parametrize("file", ["traced.pt", "jclip-torch.pkl", "hugging_face.safetensors"])
def test_the_name_of_the_file_does_not_matter(file: str, tmp_path: Path) -> None:
    shutil.copy(FOLDER / file, tmp_path / "weights.txt")
    assert read_state_dict(tmp_path / "weights.txt").keys() == EXPECTED[file].keys()


def test_neither_jittor_nor_torch_is_needed() -> None:
    """All files are read in an interpreter in which they cannot be imported."""
    program = (
        "import sys, pathlib\n"
        "for name in ('jittor', 'jittor_core', 'torch', 'safetensors'): sys.modules[name] = None\n"
        "from jclip_adapter.models.weights import read_state_dict\n"
        "files = [path for path in pathlib.Path(sys.argv[1]).iterdir() if path.suffix != '.npz']\n"
        "print(sum(bool(read_state_dict(path)) for path in files))\n"
    )
    command = [sys.executable, "-c", program, str(FOLDER)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.split() == [str(len(EXPECTED))]


def test_only_the_restricted_unpickler_is_used() -> None:
    sources = {path.name: path.read_text("utf-8") for path in Path(safetensors_file.__file__).parent.glob("*.py")}
    assert len(sources) >= 9
    unpicklers = [name for name, text in sources.items() if re.search(r"\bimport _?pickle\b|\bfrom _?pickle\b", text)]
    assert unpicklers == ["pickles.py"]
    code = re.sub(r'""".*?"""', "", "\n".join(sources.values()), flags=re.DOTALL)
    assert not re.search(r"pickle\.(?:loads?|Unpickler)\b|allow_pickle|\beval\(|\bexec\(", code)


def test_missing_folder_and_empty(tmp_path: Path) -> None:
    (tmp_path / "empty.pkl").touch()
    for name in ("none.pkl", ".", "empty.pkl"):
        with pytest.raises(WeightsError, match="cannot read weights from"):
            read_state_dict(tmp_path / name)


@pytest.mark.parametrize(
    "head", [b"version https://git-lfs.github.com/spec/v1\noid sha256:0", b"<!DOCTYPE html><html></html>"]
)
def test_what_is_saved_in_place_of_a_file(head: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(head)
    with pytest.raises(WeightsError, match="Download it again"):
        read_state_dict(tmp_path / "x.pkl")


def test_jittor_checksum(tmp_path: Path) -> None:
    data = bytearray((FOLDER / "jittor-numpy.pkl").read_bytes())
    data[-100] ^= 1
    (tmp_path / "x.pkl").write_bytes(data)
    with pytest.raises(WeightsError, match="checksum is wrong"):
        read_state_dict(tmp_path / "x.pkl")


@pytest.mark.parametrize("file", EXPECTED)
def test_every_truncation_is_noticed(file: str, tmp_path: Path) -> None:
    data = (FOLDER / file).read_bytes()
    if data.endswith(b"HCAJSLHD"):
        data = data[:-28]  # without it the rest is a whole pickle
    for kept in {*range(0, len(data), max(1, len(data) // 23)), len(data) - 1}:
        (tmp_path / "x").write_bytes(data[:kept])
        with pytest.raises(WeightsError):
            read_state_dict(tmp_path / "x")


def test_numpy_2_pickles(tmp_path: Path) -> None:
    data = (FOLDER / "numpy-protocol-2.pkl").read_bytes()
    renamed = data.replace(b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n")
    assert renamed != data
    (tmp_path / "x.pkl").write_bytes(renamed)
    assert read_state_dict(tmp_path / "x.pkl").keys() == EXPECTED["numpy-protocol-2.pkl"].keys()


def test_files_without_tensors(tmp_path: Path) -> None:
    for name, data in (("dict", b"\x80\x02}." + b""), ("list", b"\x80\x02]."), ("number", b"\x80\x02K\x01.")):
        (tmp_path / name).write_bytes(b"\x80\x02" + b"N0" * 8 + data[2:])
        with pytest.raises(WeightsError, match=r"it has no tensors|expected a dict"):
            read_state_dict(tmp_path / name)


# --- names


def test_open_clip_text_tower() -> None:
    one = np.ones((2, 2), np.float32)
    given_names = {
        "text.token_embedding.weight": one,
        "text.ln_final.bias": one,
        "visual.proj": one,
        "logit_scale": one,
    }
    assert list(to_openai(given_names).state) == [
        "token_embedding.weight",
        "ln_final.bias",
        "visual.proj",
        "logit_scale",
    ]


def test_hugging_face_faults() -> None:
    layer = "vision_model.encoder.layers.0.self_attn."
    square = np.ones((2, 2), np.float32)
    whole = {f"{layer}{part}_proj.weight": square for part in "qkv"}
    assert to_openai(whole).state["visual.transformer.resblocks.0.attn.in_proj_weight"].shape == (6, 2)
    for bad, message in (
        ({name: value for name, value in whole.items() if "v_proj" not in name}, "of one shape"),
        (whole | {f"{layer}v_proj.weight": np.ones((2, 3), np.float32)}, "of one shape"),
        (whole | {"visual_projection.weight": np.ones(2, np.float32)}, "expected a matrix"),
        (whole | {"vision_model.head.probe": square}, "expected 2 axes of length 1"),
        (whole | {"vision_model.norm.bias": square}, "not a name in Hugging Face"),
    ):
        with pytest.raises(WeightsError, match=message):
            to_openai(bad)


# --- safetensors


def write_raw(path: Path, header: object, data: bytes = b"") -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "header",
    [
        b"{" + b"[" * 200_000,
        b"{not json}",
        b'{"w": ' + b"9" * 5000 + b"}",
        b'{"\xff": 1}',
        {"w": 1},
        {"w": {**ENTRY, "dtype": "F8_E4M3"}},
        {"w": {**ENTRY, "shape": [3]}},
        {"w": {**ENTRY, "shape": [-1, -2]}},
        {"w": {**ENTRY, "shape": [0], "data_offsets": [0, 0]}},
        {"w": {**ENTRY, "shape": ["2"]}},
        {"w": {**ENTRY, "shape": [2.0]}},
        {"w": {**ENTRY, "data_offsets": [0]}},
        {"w": {**ENTRY, "data_offsets": [4, 12]}},
        {"w": {**ENTRY, "data_offsets": [-8, 0]}},
        {"w": {**ENTRY, "data_offsets": [8, 0]}},
        {"w": {"dtype": "F32", "shape": [1 << 62], "data_offsets": [0, 1 << 64]}},
        {"w": ENTRY, "v": {**ENTRY, "shape": [1], "data_offsets": [4, 8]}},
        {"__metadata__": {"a": "b"}},
    ],
)
def test_safetensors_faults(header: object, tmp_path: Path) -> None:
    write_raw(tmp_path / "x.safetensors", header, bytes(8))
    with pytest.raises(WeightsError, match=r"x\.safetensors"):
        read_state_dict(tmp_path / "x.safetensors")


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int64, np.int32, np.uint8, np.bool_])
def test_safetensors_kinds(kind: type, tmp_path: Path) -> None:
    values = np.array([[0, 1, 1], [1, 0, 1]], kind)
    save_file({"w": values}, tmp_path / "x.safetensors")
    np.testing.assert_array_equal(read_state_dict(tmp_path / "x.safetensors")["w"], values.astype(np.float32))


# Where Jittor was imported before, the process flushes denormal numbers to zero.
@given(
    weights=st.dictionaries(
        st.text("abc.é/", min_size=1, max_size=9),
        hnp.arrays(
            np.float32,
            hnp.array_shapes(min_dims=0, max_dims=4, max_side=3),
            elements=st.floats(width=32, allow_subnormal=False),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_written_the_library_reads(weights: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("w") / "x.safetensors"
    storage.write_safetensors(file, weights, {"format": "test", "b": "ü"})
    back, ours = load(file.read_bytes()), safetensors_file.read_with_facts(file)[0]
    assert back.keys() == weights.keys() == ours.keys()
    for name, value in weights.items():
        np.testing.assert_array_equal(back[name], value)
        np.testing.assert_array_equal(ours[name], value)


@given(hnp.arrays(np.uint16, 8))
def test_bfloat16_rounds_nothing(bits: Any) -> None:
    values = bfloat16_values(bits)
    assert (values.view(np.uint32) >> 16 == bits).all()
    assert (values.view(np.uint32) & 0xFFFF == 0).all()


# --- convert


@pytest.fixture
def small_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vocabulary of the genuine files, so that they count as CLIPs."""
    monkeypatch.setattr(configuration, "VOCABULARY", 11)


@pytest.mark.usefixtures("small_vocabulary")
@pytest.mark.parametrize("file", ["zip.pt", "jclip-torch.pkl", "half.pt", "hugging_face.bin"])
def test_convert(file: str, tmp_path: Path) -> None:
    one, two = tmp_path / "a.safetensors", tmp_path / "deep" / "b.safetensors"
    convert(FOLDER / file, one, "openai")
    convert(str(FOLDER / file), str(two), "openai")
    assert one.read_bytes() == two.read_bytes()
    weights = load_file(one)
    assert weights.keys() == EXPECTED[file].keys()
    for name, value in EXPECTED[file].items():
        np.testing.assert_array_equal(weights[name], value)
    size = int.from_bytes(one.read_bytes()[:8], "little")
    facts = json.loads(one.read_bytes()[8 : 8 + size])["__metadata__"]
    assert len(facts.pop("seal")) == 64
    assert json.loads(facts.pop("model"))["vision_activation"] == "quick_gelu"
    assert facts == {"format": "jclip-adapter", "source_sha256": sha256_file(FOLDER / file)}


@pytest.mark.usefixtures("small_vocabulary")
def test_convert_faults(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="safetensors"):
        convert(FOLDER / "zip.pt", tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="neither"):
        convert(tmp_path / "none.pt", tmp_path / "x.safetensors")
    with pytest.raises(SetupError):
        convert(FOLDER / "zip.pt", FOLDER / "zip.pt" / "x.safetensors", "openai")
    with pytest.raises(WeightsError, match="without a configuration"):
        convert(FOLDER / "zip.pt", tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_no_tensor_covers(tmp_path: Path) -> None:
    """As the library refuses them; a header's length that is a little off would else shift every number."""
    for header, data in (
        ({"w": ENTRY}, bytes(9)),
        ({"w": {**ENTRY, "data_offsets": [4, 12]}}, bytes(12)),
        ({"w": ENTRY, "v": {**ENTRY, "data_offsets": [12, 20]}}, bytes(20)),
    ):
        write_raw(tmp_path / "x.safetensors", header, data)
        with pytest.raises(WeightsError, match="leave gaps"):
            read_state_dict(tmp_path / "x.safetensors")


@pytest.mark.usefixtures("small_vocabulary")
@pytest.mark.parametrize("mark", [b'"seal"', b'"jclip-adapter"'])
def test_a_converted_file_without_one_of_its_marks(mark: bytes, tmp_path: Path) -> None:
    convert(FOLDER / "zip.pt", tmp_path / "x.safetensors", "openai")
    data = (tmp_path / "x.safetensors").read_bytes()
    assert mark in data
    (tmp_path / "x.safetensors").write_bytes(data.replace(mark, mark[:-2] + b'x"'))
    with pytest.raises(WeightsError, match="checksum is wrong or missing"):
        read_state_dict(tmp_path / "x.safetensors")
