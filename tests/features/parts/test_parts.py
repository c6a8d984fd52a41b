import functools
import hashlib
import io
import json
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.data import parts
from jclip_adapter.data.parts import MANIFEST, columns, part_paths, stream
from jclip_adapter.features.parts import tars
from jclip_adapter.features.parts.engine import extract_parts
from jclip_adapter.features.parts.files import Plan, finish, write_part
from jclip_adapter.features.parts.source import units
from jclip_adapter.features.sharding import Part
from jclip_adapter.storage import ANY, read_checked_json, write_checked_json
from tests.features.encoders import MeanColour


def photo(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven photos, one of them broken, in two folders, beside other files."""
    root = tmp_path / "photos"
    for number in range(7):
        place = root / ("a" if number < 4 else "b/c") / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(photo(number) if number != 2 else b"broken")
    (root / "a" / "notes.txt").write_text("no photo")
    (root / ".hidden.png").write_bytes(photo(9))
    return root


KEYS = ["a/0.png", "a/1.png", "a/2.png", "a/3.png", "b/c/4.png", "b/c/5.png", "b/c/6.png"]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_is_cut_into_units_in_one_order(folder):
    found = list(units(str(folder), 3))
    assert [key for unit in found for key, _ in unit.photos] == KEYS
    assert [len(unit.photos) for unit in found] == [3, 3, 1]
    assert [unit.digest for unit in found] == [unit.digest for unit in units(str(folder), 3)]


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".parquet"])
def test_a_list_is_read_in_its_order(suffix, folder):
    import pandas as pd

    path, keys, labels = folder / f"list{suffix}", KEYS[::-1], [key[0] for key in KEYS[::-1]]
    if suffix == ".txt":
        path.write_text("".join(f"{key}\n" for key in keys))
        labels = [""] * len(keys)
    elif suffix == ".csv":
        pd.DataFrame({"label": labels, "path": keys}).to_csv(path, index=False)
    else:
        pd.DataFrame({"label": labels, "path": keys}).to_parquet(path)
    found = [pair for unit in units(str(path), 3) for pair in unit.photos]
    assert found == list(zip(keys, labels, strict=True))


def tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def test_tar_files_have_labels_beside_photos(tmp_path):
    tar(
        tmp_path / "0.tar",
        {
            "x/1.png": photo(1),
            "x/1.cls": b"3\n",
            "x/2.png": photo(2),
            "x/3.json": b'{"label": "cat"}',
            "x/3.png": photo(3),
            "x/4.txt": b"a dog",
            "x/4.png": b"broken",
            "x/.5.png": photo(5),
        },
    )
    tar(tmp_path / "1.tar", {"y.png": photo(6)})
    found = list(units(str(tmp_path / "*.tar")))
    assert [unit.number for unit in found] == [0, 1]
    entries = [entry for unit in found for entry in unit.entries()]
    labels = {entry.key.replace(".tar/", ":"): entry.label for entry in entries}
    assert labels == {"0:x/1.png": "3", "0:x/2.png": "", "0:x/3.png": "cat", "0:x/4.png": "a dog", "1:y.png": ""}


def damaged(data: bytes, how: str) -> bytes:
    """Bytes of a tar file with six photos, of which some would not be read."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        border = archive.getmembers()[3].offset
    return {
        "cut between": data[:border],
        "cut in a header": data[: border + 100],
        "header": data[: border + 100] + b"#" * 60 + data[border + 160 :],
        "hole": data[:border] + bytes(1024) + data[border + 1024 :],
        "two": data + data,
    }[how]


@pytest.mark.parametrize("how", ["cut between", "cut in a header", "header", "hole", "two"])
def test_a_tar_file_is_read_whole_or_not_at_all(how, tmp_path):
    """Python's tarfile takes each of these for the end of the archive."""
    path = tar(tmp_path / "0.tar", {f"{number}.png": photo(number) for number in range(6)})
    assert len(list(next(units(str(path))).entries())) == 6
    path.write_bytes(damaged(path.read_bytes(), how))
    with pytest.raises(DataError, match="not a whole tar file"):
        list(next(units(str(path))).entries())


LABELS = {
    b'{"label": "cat"}': "cat",
    b'{"cls": 3}': "3",
    b"null": "",
    b"true": "",
    b"NaN": "",
    b'{"label": null}': "",
    b'{"label": {"a": 1}}': "",
    b"[" * 200_000: "",
    b"{": "",
}


@pytest.mark.parametrize("content", LABELS)
def test_a_label_in_json_is_a_text_or_a_whole_number(content, tmp_path):
    path = tar(tmp_path / "0.tar", {"a.b.png": photo(1), "a.json": content})
    (entry,) = next(units(str(path))).entries()
    assert (entry.key, entry.label) == ("0.tar/a.b.png", LABELS[content])


def test_labels_apart_from_their_photos_are_told(tmp_path, caplog):
    path = tar(tmp_path / "0.tar", {"1.png": photo(1), "2.png": photo(2), "1.cls": b"3", "2.cls": b"4"})
    assert [entry.label for entry in next(units(str(path))).entries()] == ["", ""]
    assert "2 labels without a photo beside it" in caplog.text


def test_a_member_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    path = tar(tmp_path / "0.tar", {"1.png": photo(1), "2.png": bytes(5000)})
    monkeypatch.setattr(tars, "MAX_BYTES", 4000)
    fine, large = next(units(str(path))).entries()
    assert fine.data and not large.data and "5,000 bytes" in large.error


def test_tar_files_of_one_name_are_refused(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        tar(tmp_path / name / "0.tar", {"1.png": photo(1)})
    with pytest.raises(DataError, match="2 tar files have the name"):
        list(units(str(tmp_path / "*" / "*.tar")))


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.csv", "path, label\nx.png, cat\n", [("x.png", "cat")]),
        ("a.csv", "path,label\nx.png,cat,more\n", "longer|match"),
        ("a.csv", "path,label\n,cat\n", "without a path"),
        ("a.txt", "x.png\n".encode("utf-16"), "UTF-8"),
        ("a.parquet", pd.DataFrame({"path": ["x", "y"], "label": [3, None]}), [("x", "3"), ("y", "")]),
        ("a.parquet", pd.DataFrame({"path": [b"x"], "label": [b"cat"]}), [("x", "cat")]),
        ("a.parquet", pd.DataFrame({"path": ["x"], "label": [["a", "b"]]}), "a path or label is"),
        ("a.parquet", pd.DataFrame({"path": [None], "label": ["a"]}), "without a path"),
        ("a.parquet", b"PAR1 and no more", "cannot be read as .parquet"),
    ],
)
def test_a_list_means_what_it_seems_to_or_is_refused(name, content, found, tmp_path):
    path = tmp_path / name
    if isinstance(content, pd.DataFrame):
        content.to_parquet(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if isinstance(found, list):
        assert [pair for unit in units(str(path), 3) for pair in unit.photos] == found
        return
    with pytest.raises(DataError, match=found):
        list(units(str(path), 3))


@pytest.mark.parametrize("source", ["missing", "missing/*.tar", "missing.txt"])
def test_nothing_at_the_source_is_refused(source, tmp_path):
    with pytest.raises(DataError):
        list(units(str(tmp_path / source)))


def test_a_file_that_is_no_list_is_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"")
    with pytest.raises(UsageError, match="neither a folder nor a list"):
        list(units(str(tmp_path / "a.npz")))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_photo_has_one_row(dtype, folder, tmp_path):
    encoder = MeanColour()
    whole = extract_parts("local", lambda: encoder, tmp_path / "out", str(folder), size=3, dtype=dtype)
    assert (whole["parts"], whole["rows"], whole["errors"]) == (3, 7, 1)
    rows = list(stream(tmp_path / "out", 2))
    assert [each.text("key", row) for each in rows for row in range(len(each.features))] == KEYS
    features = np.concatenate([each.features for each in rows])
    assert features.dtype == dtype
    assert np.flatnonzero(~np.concatenate([each.readable for each in rows])).tolist() == [2]
    assert not features[2].any()
    expected = np.asarray(Image.open(folder / "a/1.png").convert("RGB"), dtype=np.float32).mean(axis=(0, 1))
    np.testing.assert_allclose(features[1], expected, rtol=0.1)


def test_a_stopped_run_goes_on_with_the_same_bytes(folder, tmp_path):
    encoder, out = MeanColour(), tmp_path / "out"
    extract_parts("local", lambda: encoder, out, str(folder), size=3, dtype="float32")
    wanted = bytes_of(out)
    for lost in ("part-00001.json", "part-00001.parquet", "part-00002.parquet", "manifest.json"):
        (out / lost).unlink()
        encoder.calls = 0
        extract_parts("local", lambda: encoder, out, str(folder), size=3, dtype="float32")
        assert bytes_of(out) == wanted
        assert encoder.calls == (lost != "manifest.json")


def test_a_damaged_part_is_encoded_again(folder, tmp_path):
    out = tmp_path / "out"
    extract_parts("local", MeanColour, out, str(folder), size=3, dtype="float32")
    wanted = bytes_of(out)
    path = part_paths(out, 0)[0]
    path.write_bytes(path.read_bytes()[:-1])
    extract_parts("local", MeanColour, out, str(folder), size=3, dtype="float32")
    assert bytes_of(out) == wanted


def test_a_part_of_another_network_makes_no_whole(folder, tmp_path):
    """Two commands at once left features of two networks, and a share replaced a part of a finished folder."""
    out = tmp_path / "out"
    extract_parts("local", MeanColour, out, str(folder), size=3, dtype="float32")
    facts = part_paths(out, 1)[1]
    content = json.loads(facts.read_text())
    facts.unlink()
    write_checked_json(facts, {**{name: content[name] for name in content if name != "seal"}, "weights_sha256": "x"})
    with pytest.raises(DataError, match="of another network than"):
        list(stream(out))
    (out / "manifest.json").unlink()
    with pytest.raises(DataError, match="of another network or precision"):
        finish(Plan.of(out, MeanColour()), 3)


def test_a_share_that_encodes_a_part_anew_takes_the_manifest_away(folder, tmp_path):
    out = tmp_path / "out"
    extract_parts("local", MeanColour, out, str(folder), size=3, dtype="float32")
    wanted = bytes_of(out)
    for number in (0, 1):
        part_paths(out, number)[1].unlink()
    share = functools.partial(extract_parts, "local", MeanColour, out, str(folder), size=3, dtype="float32")
    assert "missing" in share(share=Part(1, 3))
    assert not (out / "manifest.json").exists()
    share(share=Part(2, 3))
    assert bytes_of(out) == wanted


@pytest.mark.parametrize("name", ["part-00000.parquet", "manifest.json"])
def test_files_of_other_programs_are_kept(name, folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    if name.endswith(".json"):
        (out / name).write_text('{"name": "an app"}')
    else:
        pd.DataFrame({"mine": [1]}).to_parquet(out / name)
    before = (out / name).read_bytes()
    with pytest.raises(UsageError):
        extract_parts("local", MeanColour, out, str(folder), size=3, dtype="float32")
    assert (out / name).read_bytes() == before


@pytest.mark.parametrize(("factor", "dtype"), [(1e5, "float16"), (1e30, "float32"), (np.nan, "float32")])
def test_a_feature_that_is_not_finite_is_an_error(factor, dtype, folder, tmp_path):
    class Large(MeanColour):
        def images(self, pixels):
            return super().images(pixels) * np.float32(factor)

    whole = extract_parts("local", Large, tmp_path / "out", str(folder), size=3, dtype=dtype)
    assert whole["errors"] == whole["rows"] == 7
    (rows, *_) = stream(tmp_path / "out")
    assert "not finite" in rows.text("error", 0) and not rows.features.any()


def describe_anew(folder, **changes):
    """Let the facts of the first part say what its table is now."""
    table, facts = part_paths(folder, 0)
    data = table.read_bytes()
    sums = {"part_sha256": hashlib.sha256(data).hexdigest(), "crc32": zlib.crc32(data)}
    known = read_checked_json(facts) | sums | changes
    write_checked_json(facts, {name: value for name, value in known.items() if value is not None}, ANY)
    whole = parts.read_manifest(folder)
    digests = [parts.facts_of(folder, number)["part_sha256"] for number in range(whole["parts"])]
    whole["parts_sha256"] = parts.digest_of_parts(digests)
    write_checked_json(folder / MANIFEST, whole, ANY)


@pytest.mark.parametrize("missing", ["", "zlib_ng", "zlib_ng.zlib_ng"])
def test_a_checksum_is_the_same_number_without_zlib_ng(missing, monkeypatch):
    if missing:
        monkeypatch.setitem(sys.modules, missing, None)
    data = bytes(range(256)) * 1000
    for part in (b"", data[:1], data[:7], data):
        assert parts.crc32(memoryview(part)) == zlib.crc32(part)


@pytest.mark.parametrize("older", [False, True], ids=["", "before facts had a CRC-32"])
@pytest.mark.parametrize("damage", ["features", "exchanged"])
def test_features_that_were_changed_are_not_read(damage, older, folder, tmp_path):
    out = tmp_path / "out"
    extract_parts("local", MeanColour, out, str(folder), size=3, dtype="float32")
    if older:
        describe_anew(out, crc32=None)
    (path, _), (other, _) = (part_paths(out, number) for number in range(2))
    list(stream(out))
    if damage == "exchanged":
        path.write_bytes(other.read_bytes())
    else:
        feature = next(stream(out)).features[1].tobytes()
        path.write_bytes(path.read_bytes().replace(feature, feature[::-1]))
    with pytest.raises(DataError, match=r"part-00000.parquet is not the table that part-00000.json describes"):
        list(stream(out))
    extract_parts("local", MeanColour, out, str(folder), size=3, dtype="float32")
    list(stream(out))


def test_parts_that_were_exchanged_with_their_facts_are_not_read(folder, tmp_path):
    out = tmp_path / "out"
    extract_parts("local", MeanColour, out, str(folder), size=3, dtype="float32")
    for one, other in zip(part_paths(out, 0), part_paths(out, 1), strict=True):
        data = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(data)
    for read in (lambda: list(stream(out)), lambda: list(columns(out, ("key",)))):
        with pytest.raises(DataError, match="parts of other photos"):
            read()


@pytest.mark.parametrize("file", ["table", "facts", "manifest"])
@pytest.mark.parametrize("damage", ["start", "end", "cut", "zeros", "text"])
def test_extraction_mends_what_is_damaged(file, damage, folder, tmp_path):
    """It had removed the facts and then refused to replace the table."""
    out = tmp_path / "out"
    extract_parts("local", MeanColour, out, str(folder), size=3, dtype="float32")
    wanted = bytes_of(out)
    path = dict(zip(("table", "facts", "manifest"), (*part_paths(out, 1), out / MANIFEST), strict=True))[file]
    data = bytearray(path.read_bytes())
    if damage == "zeros" and file == "table":
        data = bytearray(len(data))
    elif damage == "cut":
        data = data[: 3 if file == "table" else 40]
    elif damage == "text":  # in a table the column's name, which is no UTF-8 then
        name = b"sha256"
        data[data.rindex(name)] = 0x94
    else:
        data[-1 if damage == "end" else 30 if file != "table" else 0] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError):
        list(stream(out))
    extract_parts("local", MeanColour, out, str(folder), size=3, dtype="float32")
    assert bytes_of(out) == wanted


@pytest.mark.parametrize("fault", ["lists", "none", "no number", "width", "float64", "int32"])
def test_features_of_another_form_are_refused(fault, folder, tmp_path):
    """Lists of various lengths would shift all features behind them."""
    out = tmp_path / "out"
    extract_parts("local", MeanColour, out, str(folder), size=3, dtype="float32")
    path, rows, width = part_paths(out, 0)[0], 3, 3
    flat = np.arange(rows * width)
    fixed = functools.partial(pa.FixedSizeListArray.from_arrays, list_size=width)
    single = pa.array(flat, pa.float32())
    column = {
        "lists": lambda: pa.ListArray.from_arrays([0, 2, 6, 9], single),
        "none": lambda: pa.array([[1, 2, 3], None, [4, 5, 6]], pa.list_(pa.float32(), width)),
        "no number": lambda: fixed(pa.array([None, *flat[1:]], pa.float32())),
        "width": lambda: pa.FixedSizeListArray.from_arrays(pa.array(flat[:6], pa.float32()), list_size=2),
        "float64": lambda: fixed(pa.array(flat, pa.float64())),
        "int32": lambda: fixed(pa.array(flat, pa.int32())),
    }[fault]()
    table = pq.read_table(path)
    place = table.schema.get_field_index("feature")
    pq.write_table(table.set_column(place, "feature", column), path)
    describe_anew(out)
    with pytest.raises(DataError, match=r"lacks features|is not the table|Expected all lists"):
        list(stream(out))


@pytest.mark.parametrize("odd", [np.nan, np.inf, 1e25])
def test_a_feature_that_is_not_finite_is_named(odd, tmp_path):
    """In a row with an error it does not matter."""
    features = np.ones((4, 5), np.float32)
    features[1:3, 2] = odd
    columns = {"key": list("abcd"), "sha256": [bytes(32)] * 4, "label": [None] * 4, "error": [None, "lost", None, None]}
    plan = Plan(tmp_path, 5, "float32", {"dtype": "float32"})
    write_part(plan, 0, "0", columns, features)
    finish(plan, 1)
    (rows,) = stream(tmp_path)
    assert not rows.normalised(slice(0, 2))[1].any()
    for chosen in (slice(None), slice(2, 4)):
        with pytest.raises(DataError, match="the feature of c in part 0 has NaN, infinity"):
            rows.normalised(chosen)


@pytest.mark.parametrize("damage", ["columns", "rows", "text"])
def test_a_table_that_was_changed_is_not_read(damage, folder, tmp_path):
    out = tmp_path / "out"
    extract_parts("local", MeanColour, out, str(folder), size=3, dtype="float32")
    path = part_paths(out, 0)[0]
    table = pq.read_table(path)
    if damage == "columns":
        pq.write_table(table.drop_columns("label"), path)
    elif damage == "rows":
        pq.write_table(table.slice(1), path)
    else:
        path.write_bytes(path.read_bytes().replace(KEYS[0].encode(), b"\xff" * len(KEYS[0])))
    for read in (lambda: list(stream(out)), lambda: list(columns(out, ("key",)))):
        with pytest.raises(DataError, match="Run its extraction again"):
            read()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"data_page_size": 1},
        {"data_page_version": "2.0"},
        {"row_group_size": 3},
        {"use_dictionary": True},
        {"compression": "zstd"},
    ],
    ids=["one page", "pages", "version 2", "groups", "dictionary", "compressed"],
)
def test_a_table_is_read_alike_however_it_lies_in_its_file(how, dtype, tmp_path, monkeypatch):
    features = np.random.default_rng(0).standard_normal((4000, 24)).astype(dtype)
    columns = {
        "key": [f"{row}.jpg" for row in range(4000)],
        "sha256": [bytes(32)] * 4000,
        "label": [None] * 4000,
        "error": [None] * 4000,
    }
    plan = Plan(tmp_path, 24, dtype, {"dtype": dtype})
    write_part(plan, 0, "0", columns, features)
    finish(plan, 1)
    path = part_paths(tmp_path, 0)[0]
    if how:
        pq.write_table(pq.read_table(path), path, **{"compression": "none", "use_dictionary": False, **how})
        describe_anew(tmp_path)
    in_place = []
    look = parts._features_in_place
    monkeypatch.setattr(parts, "_features_in_place", lambda *given: in_place.append(look(*given)) or in_place[-1])
    found: list[np.ndarray] = []
    for rows in stream(tmp_path, 999):
        assert rows.text("key", 1) == f"{999 * len(found) + 1}.jpg"
        found.append(rows.features)
    np.testing.assert_array_equal(np.concatenate(found), features, strict=True)
    assert [each is not None for each in in_place] == [not how]


def test_parts_of_other_photos_or_another_precision_are_refused(folder, tmp_path):
    out, encoder = tmp_path / "out", MeanColour()
    extract_parts("local", lambda: encoder, out, str(folder), size=3, dtype="float32")
    with pytest.raises(DataError, match="float32, not float16"):
        extract_parts("local", lambda: encoder, out, str(folder), size=3, dtype="float16")
    (folder / "a" / "00.png").write_bytes(photo(11))
    with pytest.raises(DataError, match="of other photos"):
        extract_parts("local", lambda: encoder, out, str(folder), size=3, dtype="float32")
