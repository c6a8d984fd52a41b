"""Photos as a person sees them: rows A5, A6, C6, C7, C8 and the photos of row D of the field cases."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from benchmarks.reliability.odd_pictures import stored_as
from jclip_adapter.cli.runs import trained_with
from jclip_adapter.core.errors import DataError, PhotoError
from jclip_adapter.data.photos import formats as photo_formats
from jclip_adapter.data.photos.augmentation import TrainingPhotos, random_square
from jclip_adapter.data.photos.decode import open_image, read_square
from jclip_adapter.data.photos.jpeg import MAX_PIXELS
from jclip_adapter.data.photos.preprocess import PixelTransform, square_pixels
from jclip_adapter.data.photos.reading import OPENAI, Reading
from jclip_adapter.data.photos.tiff import with_directory
from jclip_adapter.data.photos.white_level import find_white_level
from jclip_adapter.data.sets import PHOTO_SUFFIXES, load_dataset
from jclip_adapter.models.clip.encoder import load_encoder
from tests import ROOT
from tests.conftest import Cli
from tests.tiny_contest import WEIGHTS, picture, write_photo

from . import photo_world as world

EVALUATE = ("--evaluate", "--method", "zero-shot", "--weights", "sample", "--device", "cpu")
KEPT = Reading(exif="keep")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A feature store that the tests share: the classes' texts are encoded once."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture
def accuracy(tmp_path: Path, store: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch):
    """Top-1 of zero-shot on a data set, by the command line; and what was said."""

    def measure(data: Path, *flags: str) -> tuple[float, str]:
        place = tmp_path / f"work{len(list(tmp_path.glob('work*')))}"
        place.mkdir()
        monkeypatch.chdir(place)
        done = cli(*EVALUATE, "--data", data, "--cache", store, *flags)
        assert done.status == 0, done.err
        return world.top1(place), done.err

    return measure


def flagged(image: Image.Image, kind: str, orientation: int, **options: object) -> bytes:
    """A file of an image as a turned camera stores it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return world.encoded(stored_as(image, orientation), kind, exif=exif, **options)


# A5


def test_photos_turned_by_the_exif_flag_have_the_accuracy_of_upright_ones(tmp_path, accuracy):
    """A5: phone photos turned by the EXIF flag."""

    def save(image, path, number):
        path.write_bytes(flagged(image, "PNG", number % 8 + 1))

    upright, _ = accuracy(world.lay_out(tmp_path / "upright", world.save_plain))
    turned = world.lay_out(tmp_path / "turned", save)
    assert upright > 50
    assert accuracy(turned)[0] == upright
    assert accuracy(turned, "--exif", "keep")[0] < upright - 10


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("JPEG", {"quality": 100, "subsampling": 0}),
        ("MPO", {"quality": 100, "subsampling": 0, "save_all": True}),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
    ],
)
def test_every_orientation_of_every_format_comes_out_upright(kind, options, orientation):
    """A5, relatives: all eight values, in each format that carries them."""
    image = picture(0, 61, 40)
    found = open_image(flagged(image, kind, orientation, **options), "x")
    assert found.size == image.size
    apart = np.abs(np.asarray(found.convert("RGB")).astype(int) - np.asarray(image))
    assert apart.mean() < (2.5 if kind in ("JPEG", "MPO", "AVIF") else 1e-9)


def test_augmented_and_training_photos_are_upright_too(tmp_path):
    """A5, relatives: the photos of a training through CLIP, cropped or whole, and greys of 16 bits."""
    image = picture(3, 60, 40)
    (tmp_path / "a.png").write_bytes(world.encoded(image, "PNG"))
    (tmp_path / "b.png").write_bytes(flagged(image, "PNG", 6))
    for rng in (None, 0):
        plain, turned = (
            TrainingPhotos([tmp_path / name], 32)(np.array([0]), rng if rng is None else np.random.default_rng(0), 0.5)
            for name in ("a.png", "b.png")
        )
        np.testing.assert_array_equal(plain, turned)
    stored = TrainingPhotos([tmp_path / "b.png"], 32, reading=KEPT)(np.array([0]), None, 0.5)
    assert (stored != TrainingPhotos([tmp_path / "a.png"], 32)(np.array([0]), None, 0.5)).any()
    deep = stored_as(world.grey(image), 6)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = world.encoded(Image.fromarray(np.asarray(deep).astype(np.uint16) * 257), "PNG", exif=exif)
    np.testing.assert_array_equal(np.asarray(open_image(data, "deep.png")), np.asarray(world.grey(image)))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_impossible_orientation_and_broken_exif_data_leave_a_photo_as_it_is(orientation):
    """A5, relatives: EXIF data that make no sense."""
    image = picture(0, 30, 20)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for data in (
        world.encoded(image, "PNG", exif=exif),
        world.encoded(image, "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05" + b"\xff" * 9),
    ):
        np.testing.assert_array_equal(np.asarray(open_image(data, "x.png")), np.asarray(image))


def test_features_read_otherwise_have_another_key_and_a_run_keeps_its_reading(trained, cli):
    """A5: the store tells both readings apart, run.json holds them, prediction takes them from there."""
    encoder = load_encoder("tiny.pkl", "cpu")
    keys = {encoder.image_key()}
    for reading in (KEPT, Reading(transparent="black"), Reading(white_level=1023)):
        encoder.reading = reading
        keys.add(encoder.image_key())
    assert len(keys) == 4
    (path,) = Path("results/runs").glob("*/run.json")
    facts = json.loads(path.read_text())["settings"]
    assert (facts["exif"], facts["transparent"], facts["white_level"]) == ("apply", "white", 0)
    refused = cli("--predict", "--weights", "tiny.pkl", "--run", path.parent, "--exif", "keep")
    assert refused.status == 2
    assert "was trained with exif 'apply', not 'keep'" in refused.err


# A6


@pytest.mark.parametrize("bits", [10, 12])
def test_photos_of_10_and_12_bits_have_the_accuracy_of_those_of_8(bits, tmp_path, accuracy):
    """A6: 10 and 12 bits in 16-bit PNGs that do not tell it."""

    def save(image, path, _):
        path.write_bytes(world.png16(world.deepened(image, bits)))

    plain, said = accuracy(world.lay_out(tmp_path / "plain", world.save_plain, change=world.grey))
    assert "16 bits" not in said
    deep = world.lay_out(tmp_path / "deep", save, change=world.grey)
    found, said = accuracy(deep)
    assert plain > 30
    assert found == plain
    assert f"inferred white level: {(1 << bits) - 1} ({bits} bits)" in said
    assert accuracy(deep, "--white-level", "65535")[0] < plain - 10


def test_a_photo_that_is_predicted_alone_is_scaled_like_the_photos_trained_on(tmp_path, store, cli, monkeypatch):
    """A6: "once per data set" is the run's white level for --images, however dark the one photo is."""
    monkeypatch.chdir(tmp_path)

    def save(image, path, _):
        path.write_bytes(world.png16(world.deepened(image, 10)))

    told = {}
    dark = world.grey(world.pictures()[-1][1]).point(lambda value: value // 4)
    for name, kind in (("deep", save), ("plain", world.save_plain)):
        world.lay_out(tmp_path / name, kind, change=world.grey)
        (tmp_path / f"{name}.png").parent.mkdir(exist_ok=True)
        kind(dark, tmp_path / "alone.png", 0)
        flags = ("--weights", "sample", "--shots", "2", "--cache", store, "--run", f"run-{name}")
        assert cli("--train", "--data", name, *flags).status == 0
        done = cli("--predict", "--images", "alone.png", "--data", name, *flags)
        assert done.status == 0
        told[name] = done.out
    assert told["deep"] == told["plain"]
    assert json.loads(Path("run-deep/run.json").read_text())["settings"]["white_level"] == 1023
    assert json.loads(Path("run-plain/run.json").read_text())["settings"]["white_level"] == 0


SHADES = np.arange(256, dtype=np.uint8).reshape((8, 32))


def channels(count: int) -> np.ndarray:
    """Four shifted ramps of all 256 shades; the last channel is opaque where it is alpha."""
    made = np.stack([np.roll(SHADES, 7 * number, axis=1) for number in range(count)], axis=2)
    if count in (2, 4):
        made[..., -1] = 255
    return made


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [8, 10, 12, 15, 16])
def test_every_kind_of_deep_photo_keeps_its_shades(count, bits):
    """A6, relatives: grey and colours, with and without alpha, told by the file or by the data set."""
    wanted = channels(count)
    values = world.deepened(wanted, bits)
    top = (1 << bits) - 1
    files = {"PNG": world.png16(values)}
    declared = {}
    if bits < 16:
        declared["sBIT, as they are"] = world.png16(values, world.chunk(b"sBIT", bytes([bits] * count)))
        scaled = (values.astype(np.uint32) * 65535 // top).astype(np.uint16)
        declared["sBIT, scaled up"] = world.png16(scaled, world.chunk(b"sBIT", bytes([bits] * count)))
    if count in (1, 3):
        magic = b"P5" if count == 1 else b"P6"
        size = b"\n# made by hand\n32 8\n"
        files["PNM"] = magic + size + b"65535\n" + values.astype(">u2").tobytes()
        files["plain PNM"] = (
            (b"P2" if count == 1 else b"P3") + size + b"65535\n" + b" ".join(b"%d" % value for value in values.ravel())
        )
        if 8 < bits < 16:
            declared["maxval"] = magic + size + b"%d\n" % top + values.astype(">u2").tobytes()
    if count == 1 and 8 < bits < 16:
        declared["MaxSampleValue"] = world.tiff16(values, highest=top)
    if count != 2:
        files |= {f"TIFF {order}": world.tiff16(values, order) for order in "<>"}
    for name, data, level in (*((n, d, top) for n, d in files.items()), *((n, d, 0) for n, d in declared.items())):
        image = open_image(data, name, Reading(white_level=level, transparent="drop"))
        found = np.asarray(image).reshape((8, 32, -1))
        whole = wanted[..., [0, 0, 0, 1]] if found.shape[2] == 4 and count == 2 else wanted
        np.testing.assert_array_equal(found[..., : whole.shape[2]], whole, err_msg=name)


def test_a_dark_deep_photo_of_which_nothing_tells_the_range_is_refused_and_so_is_one_beyond_it():
    """A6: no guess on a single photo."""
    data = world.png16(world.deepened(channels(3), 10))
    with pytest.raises(PhotoError, match=r"x\.png has 16 bits with values only up to 1023.* give --white-level"):
        open_image(data, "x.png")
    with pytest.raises(PhotoError, match="up to 1023, above the white level 511: --white-level 1023 would fit it"):
        open_image(data, "x.png", Reading(white_level=511))


def test_a_dark_photo_that_is_scaled_to_16_bits_stays_dark():
    """A6, relatives: its values fit in the significant bits, but all are results of scaling."""
    values = (np.arange(16, dtype=np.uint16) << 6).reshape((4, 4, 1))
    found = open_image(world.png16(values, world.chunk(b"sBIT", bytes([10]))), "x")
    np.testing.assert_array_equal(np.asarray(found), np.round(values[..., 0] / 257).astype(np.uint8))


@pytest.mark.parametrize("data", [b"P5 2 2 1023\n" + bytes(7), b"P2 2 2 1023\n1 2 3", b"P2 2 2 1023\n1 2 3 1024"])
def test_pnm_files_that_are_cut_short_or_beyond_their_maxval(data):
    with pytest.raises(PhotoError, match=r"truncated|is not from 0 to 1023"):
        open_image(data, "x.pgm")


@pytest.mark.parametrize("form", ["P", "RGB"])
def test_the_long_side_decides_and_rgb_comes_first(form):
    """Relatives of A1: the transforms of other models, on palettes too."""
    image = Image.new("RGB", (40, 20), (200, 30, 60))
    image = image.quantize() if form == "P" else image
    pixels = square_pixels(image, 8, PixelTransform(resize="longest"))
    assert (pixels[2:6] == (200, 30, 60)).all()
    assert (pixels[[0, 1, 6, 7]] == pixels[0, 0]).all()
    first, later = (np.random.default_rng(3) for _ in range(2))
    wanted = random_square(image.convert("RGB"), 8, first, 0.5)
    np.testing.assert_array_equal(random_square(image, 8, later, 0.5, PixelTransform(rgb_first=True)), wanted)


def test_white_is_zero_and_a_transparent_value_of_16_bits():
    """A6, relatives: TIFFs whose zero is white, which Pillow turns round in 8 bits alone; PNG's tRNS in 16 bits."""
    wanted = channels(1)
    data = world.tiff16(1023 - world.deepened(wanted, 10), photometric=0)
    np.testing.assert_array_equal(np.asarray(open_image(data, "x", Reading(white_level=1023))), wanted[..., 0])
    for count in (1, 3):
        values = world.deepened(channels(count), 10)
        clear = world.chunk(b"tRNS", values[0, 5].astype(">u2").tobytes())
        found = open_image(world.png16(values, clear), "x", Reading(white_level=1023))
        assert found.getpixel((5, 0)) == (255, 255, 255)
        assert found.getpixel((6, 0)) == tuple(channels(count)[0, 6].tolist() * (3 // count))


def test_the_data_set_decides_by_the_bits_in_use_and_unreadable_photos_do_not_count(tmp_path):
    """A6: bright and dark photos of one data set get one white level."""
    values = world.deepened(channels(1), 12)
    for name, data in {
        "dark.png": world.png16(values // 4),
        "bright.TIFF": world.tiff16(values),
        "eight.png": world.encoded(picture(0), "PNG"),
        "told.png": world.png16(values, world.chunk(b"sBIT", b"\x0e")),
        "broken.png": world.png16(values)[:60],
        "photo.jpg": world.encoded(picture(0), "JPEG"),
    }.items():
        (tmp_path / name).write_bytes(data)
    paths = sorted(tmp_path.iterdir())
    assert find_white_level(paths) == 4095
    assert find_white_level([path for path in paths if path.name != "bright.TIFF"]) == 1023
    assert find_white_level([tmp_path / "photo.jpg", tmp_path / "eight.png", tmp_path / "missing.png"]) == 0
    (tmp_path / "full.png").write_bytes(world.png16(world.deepened(channels(3), 16)))
    assert find_white_level([*paths[-1:], tmp_path / "full.png"]) == 65535


def deep_photos(folder: Path, bits: dict[int, int]) -> list[Path]:
    """Grey PNGs, so many of each number of bits."""
    folder.mkdir()
    for depth, count in bits.items():
        data = world.png16(world.deepened(channels(1), depth))
        for number in range(count):
            (folder / f"{depth}-{number:03}.png").write_bytes(data)
    return sorted(folder.iterdir())


@pytest.mark.parametrize(
    ("bits", "level", "said"),
    [
        ({10: 20}, 1023, "values up to 1023 in 20 of them"),
        ({10: 19, 16: 1}, 1023, "values up to 65535 in 1 (as "),
        ({10: 19, 12: 1}, 1023, "values up to 4095 in 1 (as "),
        ({10: 19, 9: 6, 16: 2}, 1023, "photos beyond it are read with white level 65535, or refused"),
        ({12: 19, 10: 5}, 4095, "half of these up to 4095"),
        ({12: 2, 11: 3, 10: 4, 9: 5, 8: 6}, 4095, "half of these up to 511"),
        ({16: 19, 8: 2}, 65535, "values up to 65535 in 21 of them"),
    ],
)
def test_a_few_photos_far_from_the_others_decide_nothing_and_every_guess_is_a_warning(
    bits, level, said, tmp_path, caplog
):
    """A6, relatives: other cameras' photos and defective ones, above and below; the figures are those of the photos."""
    assert find_white_level(deep_photos(tmp_path / "x", bits)) == level
    (record,) = [record for record in caplog.records if record.name.endswith("white_level")]
    assert record.levelname == "WARNING"
    assert said in record.getMessage()
    assert f"inferred white level: {level} " in record.getMessage()


@pytest.mark.parametrize("bits", [{10: 10, 16: 10}, {8: 5, 12: 1}, {10: 4, 16: 20}])
def test_two_large_groups_of_photos_far_apart_are_refused_with_both_white_levels(bits, tmp_path):
    """A6, relatives: whether the lower ones are dark cannot be told."""
    low, high = ((1 << depth) - 1 for depth in bits)
    with pytest.raises(DataError, match=f"{bits[min(bits)]} use values up to {low} .* up to {high} ") as caught:
        find_white_level(deep_photos(tmp_path / "x", bits))
    assert f"--white-level {high} if they are dark, else --white-level {low}" in caught.value.hint


def test_photos_that_use_all_16_bits_need_no_guess(tmp_path, caplog):
    """A6, relatives: they tell their range by using it."""
    caplog.set_level("INFO")
    assert find_white_level(deep_photos(tmp_path / "x", {16: 3})) == 65535
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_a_large_data_set_is_sampled_evenly_and_the_figures_say_so(tmp_path, caplog, monkeypatch):
    """A6, relatives: the message counts what was looked at, and of how many."""
    monkeypatch.setattr("jclip_adapter.data.photos.white_level._MOST", 5)
    paths = deep_photos(tmp_path / "x", {10: 10, 11: 10})
    assert find_white_level(paths) == 2047
    assert "(5 of 5 decoded, out of 20): values up to 2047 in 5 of them, half of these up to 1023" in caplog.text


@pytest.mark.parametrize("count", [2, 4])
def test_a_defective_pixel_of_alpha_hides_nothing(count):
    """A6, relatives: alpha of 10 bits with one value at 65535."""
    wanted = np.tile(channels(count), (8, 4, 1))
    values = world.deepened(wanted, 10)
    values[0, 0, -1] = 65535
    found = np.asarray(open_image(world.png16(values), "x.png", Reading(white_level=1023, transparent="drop")))
    np.testing.assert_array_equal(found[..., -1], wanted[..., -1])


def test_a_defective_pixel_does_not_make_a_told_range_untold():
    """A6, relatives: sBIT and MaxSampleValue of 10 bits, values stored as they are, and one at 65535."""
    wanted = np.tile(channels(1), (8, 4, 1))
    values = world.deepened(wanted, 10)
    values[0, 0] = 65535
    told = world.png16(values, world.chunk(b"sBIT", b"\x0a")), world.tiff16(values, highest=1023)
    for data in told:
        found = np.asarray(open_image(data, "x"))
        assert found[0, 0] == 255
        np.testing.assert_array_equal(found[1:], wanted[1:, :, 0])


@pytest.mark.parametrize("count", [1, 3])
def test_a_defective_pixel_changes_neither_its_photo_nor_the_others(count, tmp_path):
    """A6, relatives: one value at 65535, in grey and in colours."""
    wanted = np.tile(channels(count), (8, 4, 1))
    values = world.deepened(wanted, 10)
    paths = deep_photos(tmp_path / "x", {10: 3})
    values[0, 0] = 65535
    for name, data in (("hot.png", world.png16(values)), ("hot.tif", world.tiff16(values))):
        (tmp_path / name).write_bytes(data)
        assert find_white_level([*paths, tmp_path / name]) == 1023
        found = np.asarray(open_image(data, name, Reading(white_level=1023))).reshape(wanted.shape)
        assert (found[0, 0] == 255).all()
        np.testing.assert_array_equal(found[1:], wanted[1:])


def test_one_bright_photo_leaves_the_accuracy_of_10_bit_photos_as_it_is(tmp_path, accuracy):
    """A6, a relative: a photo with a pixel of 65535, and one of 16 bits, among those of 10."""

    def saver(odd):
        def save(image, path, number):
            values = world.deepened(image, 10)
            if number == 57 and odd == "pixel":
                values[0, 0] = 65535
            if number == 57 and odd == "photo":
                values = world.deepened(image, 16)
            path.write_bytes(world.png16(values))

        return save

    plain, _ = accuracy(world.lay_out(tmp_path / "plain", saver(""), change=world.grey))
    assert plain > 30
    for odd in ("pixel", "photo"):
        found, said = accuracy(world.lay_out(tmp_path / odd, saver(odd), change=world.grey))
        assert found == plain
        assert "inferred white level: 1023 (10 bits)" in said


def test_a_runs_white_level_is_compared_with_other_data(tmp_path, store, cli, monkeypatch):
    """A6: a run of 12-bit photos used on photos of 10 bits and the other way round; --white-level sets it right."""
    monkeypatch.chdir(tmp_path)

    def saver(bits):
        def save(image, path, _):
            path.write_bytes(world.png16(world.deepened(image, bits)))

        return save

    flags = ("--weights", "sample", "--shots", "2", "--cache", store)
    for bits in (10, 12):
        world.lay_out(tmp_path / f"d{bits}", saver(bits), change=world.grey)
        done = cli("--train", "--data", f"d{bits}", *flags, "--run", f"run{bits}")
        assert done.status == 0, done.err

    def evaluated(bits, run, *more):
        done = cli("--evaluate", "--data", f"d{bits}", *flags, "--run", run, *more)
        assert done.status == 0, done.err
        return json.loads(Path(run, "evaluation.json").read_text())["scores"][-1]["top1"], done.err

    right, said = evaluated(12, "run12")
    assert "seem to have white level" not in said
    dark, said = evaluated(10, "run12")
    assert dark < right - 5
    assert "they seem to have white level 1023, but that of run12, 4095, is used" in said
    assert "give --run run12 --white-level 1023" in said
    mended, said = evaluated(10, "run12", "--white-level", "1023")
    assert mended == right
    assert "was trained with white level 4095, photos are read with 1023" in said
    done = cli("--evaluate", "--data", "d12", *flags, "--run", "run10")
    assert done.status == 2
    assert "they seem to have white level 4095, but that of run10, 1023, is used" in done.err
    assert "above the white level 1023: --white-level 4095 would fit it" in done.err
    done = cli("--predict", "--images", "d12/test", "--data", "d10", *flags, "--run", "run10")
    assert "they seem to have white level 4095, but that of run10, 1023, is used" in done.err


def test_a_white_level_without_effect_or_below_the_photos_is_refused(tmp_path, cli, monkeypatch):
    """Issue D: --white-level on photos of 8 bits, on photos that tell their range, and on brighter ones."""
    monkeypatch.chdir(tmp_path)
    told = world.chunk(b"sBIT", b"\x0a")
    files = {
        "eight": lambda image: world.encoded(image, "PNG"),
        "told": lambda image: world.png16(world.deepened(image, 10), told),
        "twelve": lambda image: world.png16(world.deepened(image, 12)),
        "sixteen": lambda image: world.png16(world.deepened(image, 16)),
    }
    for name, make in files.items():
        world.lay_out(Path(name), lambda image, path, _, make=make: path.write_bytes(make(image)), change=world.grey)

    def said(data, level):
        done = cli(*EVALUATE, "--data", data, "--white-level", level)
        assert done.status == 2
        assert not Path("results/runs").exists()
        return done.err.splitlines()[-1]

    for name in ("eight", "told"):
        assert "--white-level has no effect: all photos have 8 bits per channel, or declare" in said(name, 1023)
    for name, top in (("twelve", 4095), ("sixteen", 65535)):
        line = said(name, 1023)
        assert "--white-level 1023 is too low: 16-bit photos" in line
        assert f"values up to {top} in " in line
        assert f"Give --white-level {top}" in line
    for path in Path("twelve").rglob("*.png"):
        path.rename(path.with_suffix(".jpg"))  # those are not counted in choosing the level; a given one is theirs
    assert cli(*EVALUATE, "--data", "twelve", "--white-level", "4095").status == 0


# TIFF


def planar(values: np.ndarray, order: str, compressed: bool) -> bytes:
    """A TIFF of channels stored one after the other, each in two strips; deflated or not."""
    height, width, count = values.shape
    rows = -(-height // 2)
    strips = [
        values[top : top + rows, :, number].astype(f"{order}u2").tobytes()
        for number in range(count)
        for top in (0, rows)
    ]
    strips = [zlib.compress(strip) if compressed else strip for strip in strips]
    places = [8 + sum(map(len, strips[:number])) for number in range(len(strips))]
    entries = {256: [width], 257: [height], 258: [16] * count, 259: [8 if compressed else 1], 262: [2], 273: places}
    entries |= {277: [count], 278: [rows], 279: list(map(len, strips)), 284: [2]}
    if count == 4:
        entries[338] = [2]
    return with_directory(b"12345678" + b"".join(strips), entries, order)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("bits", "count"), [(16, 3), (10, 3), (16, 4)])
def test_channels_of_16_bits_that_are_stored_one_after_the_other(bits, count, compressed, order):
    """A6, relatives: planar TIFFs, which Pillow decodes to garbage."""
    wanted = channels(count)
    data = planar(world.deepened(wanted, bits), order, compressed)
    found = open_image(data, "x.tif", Reading(white_level=(1 << bits) - 1, transparent="drop"))
    np.testing.assert_array_equal(np.asarray(found), wanted)


def test_a_planar_tiff_is_turned_once(tmp_path):
    """A5, A6: orientation of a planar TIFF."""
    wanted = channels(3)
    data = planar(world.deepened(wanted, 16), "<", compressed=False)
    at = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[at : at + 2], "little")
    entries = {}
    for number in range(count):
        tag, _, length, value = struct.unpack("<HHII", data[at + 2 + 12 * number :][:12])
        entries[tag] = [value] if length == 1 else list(struct.unpack(f"<{length}I", data[value:][: 4 * length]))
    turned = with_directory(data[:at], entries | {274: [6]}, "<")
    for reading in (Reading(), KEPT):
        np.testing.assert_array_equal(np.asarray(open_image(turned, "x.tif", reading)), np.rot90(wanted, -1))


def pages(*pictures: tuple[Image.Image, dict[int, int]]) -> bytes:
    """A TIFF of several pages, each with its own tags."""
    buffer = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(buffer) as writer:
        for image, tags in pictures:
            image.save(writer, "TIFF", tiffinfo=tags)
            writer.newFrame()
        writer.f = io.BytesIO()  # which it would close
    return buffer.getvalue()


@pytest.mark.parametrize("mark", [{254: 1}, {255: 2}, {254: 4}])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_thumbnail_or_a_mask_on_the_first_page_is_not_the_photo(mark, bits):
    """C7, relatives: the first page that is no reduced picture is taken; one that is single is the photo."""
    photo = picture(1, 90, 60)
    if bits == 16:
        photo = Image.fromarray(world.deepened(world.grey(photo), 16))
    small = photo.resize((9, 6))
    data = pages((small, mark), (small, mark), (photo, {}))
    with Image.open(io.BytesIO(data)) as check:
        assert check.size == (9, 6)
        assert check.n_frames == 3
    wanted = np.asarray(world.grey(picture(1, 90, 60)) if bits == 16 else photo)
    np.testing.assert_array_equal(np.asarray(open_image(data, "x.tif")), wanted)
    turned = open_image(pages((small, mark), (photo, {274: 6})), "x.tif")
    np.testing.assert_array_equal(np.asarray(turned), np.rot90(wanted, -1))
    single = world.encoded(photo, "TIFF", tiffinfo=mark)
    np.testing.assert_array_equal(np.asarray(open_image(single, "x.tif")), wanted)
    with pytest.raises(PhotoError, match="each of its pages is a thumbnail or a mask"):
        open_image(pages((small, mark), (small, mark)), "x.tif")


def planes_of(values: np.ndarray, entries: dict[int, list[int]]) -> dict[int, list[int]]:
    """The tags of a file whose channels lie one after the other, of those where they do not."""
    share, count = values.nbytes // values.shape[2], values.shape[2]
    return entries | {273: [8 + share * number for number in range(count)], 279: [share] * count, 284: [2]}


def test_tiffs_that_are_not_read_are_described():
    """C7, relatives: the true reason."""
    grey = world.deepened(channels(1), 16)
    inverted = world.tiff16(grey, ">", photometric=0)
    with pytest.raises(PhotoError, match=r"a big-endian TIFF of 1 channel of 16 bits \(grey, zero being white\)"):
        open_image(inverted, "x.tif")
    height, width = grey.shape[:2]
    entries = {256: [width], 257: [height], 258: [16], 259: [1], 262: [1], 273: [8], 277: [1], 278: [height]}
    entries |= {279: [grey.nbytes], 339: [2]}
    signed = with_directory(b"12345678" + grey.tobytes(), entries, "<")
    with pytest.raises(
        PhotoError, match=r"a little-endian TIFF of 1 channel of signed 16 bits .* whose value range is unknown"
    ):
        open_image(signed, "x.tif")
    entries |= {258: [16, 16], 277: [2], 279: [2 * grey.nbytes], 338: [2], 339: [1, 1]}
    pairs = with_directory(b"12345678" + np.repeat(grey, 2).tobytes(), entries, "<")
    with pytest.raises(
        PhotoError, match=r"a little-endian TIFF of 2 channels of 16 bits \(grey\), which is not supported"
    ):
        open_image(pairs, "x.tif")
    inks = np.repeat(world.deepened(channels(1), 10), 4, axis=2)
    entries |= {258: [16] * 4, 262: [5], 277: [4], 279: [inks.nbytes], 339: [1] * 4}
    del entries[338]
    with pytest.raises(PhotoError, match=r"16 bits \(CMYK\) that uses less than 16 bits, which is not supported"):
        open_image(with_directory(b"12345678" + inks.tobytes(), entries, "<"), "x.tif")
    with pytest.raises(PhotoError, match=r"16 bits, one after the other \(CMYK\), which is not supported"):
        open_image(with_directory(b"12345678" + inks.tobytes(), planes_of(inks, entries), "<"), "x.tif")
    with pytest.raises(PhotoError, match="a TIFF without a complete directory of tags"):
        open_image(b"II*\0" + b"\xff" * 99, "x.tif")
    with pytest.raises(PhotoError, match="none of JPEG"):
        open_image(b"II" + b"\xff" * 99, "x.tif")


# --predict --images


def listed(outcome) -> list[str]:
    """The photos that a prediction names, in order."""
    assert outcome.status == 0, outcome.err
    return [line.split(":")[0] for line in outcome.out.splitlines()]


def test_photos_in_folders_at_any_depth_are_classified(workplace, cli):
    """Issue D: `--images FOLDER` passed over sub-folders, and denied the photos of those that hold nothing else."""
    flags = ("--predict", *WEIGHTS, "--method", "zero-shot", "--images")
    places = ("day10/2.jpg", "day10/10.jpg", "day2/a/b/1.jpg", "top.jpg")
    for name in (*places, ".hidden/1.jpg", "@eaDir/1.jpg"):
        write_photo(workplace / "im" / name, 1)
    (workplace / "im" / "day2" / "notes.txt").write_text("x")
    outcome = cli(*flags, "im")
    assert listed(outcome) == ["im/top.jpg", "im/day2/a/b/1.jpg", "im/day10/2.jpg", "im/day10/10.jpg"]
    assert "im: ignored 1 file without a photo's suffix" in outcome.err
    assert listed(cli(*flags, "im/day10", "im/top.jpg")) == ["im/day10/2.jpg", "im/day10/10.jpg", "im/top.jpg"]
    (workplace / "im" / "top.jpg").unlink()
    assert len(listed(cli(*flags, "im"))) == 3


def test_folders_without_photos_and_those_that_cannot_be_walked_are_refused(workplace, cli):
    """Issue D, relatives: nothing at any depth; a link that leads back to a folder above."""
    flags = ("--predict", *WEIGHTS, "--method", "zero-shot", "--images")
    (workplace / "im" / "inner").mkdir(parents=True)
    (workplace / "im" / "inner" / "notes.txt").write_text("x")
    outcome = cli(*flags, "im")
    assert outcome.status == 2
    assert "im has no photo at any depth" in outcome.err
    write_photo(workplace / "im" / "1.jpg", 1)
    (workplace / "im" / "inner" / "back").symlink_to(workplace / "im")
    outcome = cli(*flags, "im")
    assert outcome.status == 2
    assert "'inner/back' is a circular link" in outcome.err


# C6

_CHILD = """
import json, sys
from jclip_adapter.data.photos.decode import PhotoError, read_square
from jclip_adapter.data.photos.reading import Reading
try:
    told = read_square(sys.argv[1], 224)[1].mean(axis=(0, 1)).tolist()
except PhotoError as error:
    told = error.message
peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
print(json.dumps([told, int(peak) / 1024]))
"""
GIGABYTE = 1024


def huge(path: Path, size: tuple[int, int], cut: float = 1.0, **options: object) -> Path:
    """A JPEG of many pixels: the picture, made larger."""
    tiles = np.tile(np.asarray(picture(0, 500, 500)), (-(-size[1] // 500), -(-size[0] // 500), 1))
    Image.fromarray(tiles[: size[1], : size[0]]).save(path, "JPEG", quality=60, **options)
    if cut < 1:
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * cut)] + b"\xff\xd9")
    return path


@pytest.mark.parametrize(
    ("size", "options", "limit"),
    [
        ((12000, 9000), {}, 300),
        ((16320, 12240), {}, 400),
        ((20000, 3000), {}, 300),
        ((12000, 9000), {"progressive": True}, 700),
    ],
)
def test_photos_of_108_and_200_megapixels_and_panoramas_are_read_within_the_memory(tmp_path, size, options, limit):
    """C6: decoded small. The peak is that of a process which decodes nothing else, in MB."""
    path = huge(tmp_path / "huge.jpg", size, **options)
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, path], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    mean, peak = json.loads(done.stdout)
    assert size[0] * size[1] > MAX_PIXELS
    assert peak < limit < GIGABYTE
    tile = np.asarray(picture(0, 500, 500)).mean(axis=(0, 1))
    assert np.abs(np.array(mean) - tile).max() < 6


def test_a_huge_jpeg_that_is_cut_short_is_refused_and_so_is_one_that_does_not_fit(tmp_path):
    """C6, relatives: damage is noticed on the reduced picture too; too many pixels stay refused; other formats too."""
    cut = huge(tmp_path / "cut.jpg", (12000, 9000), cut=0.6)
    with pytest.raises(PhotoError, match="its data end before the image is complete"):
        read_square(cut, 32)
    data = bytearray((tmp_path / "cut.jpg").read_bytes())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = (60_000).to_bytes(2, "big") * 2
    with pytest.raises(PhotoError, match="60000×60000 pixels, too many even when reduced"):
        open_image(bytes(data), "huge.jpg")
    flat = world.encoded(Image.new("1", (9000, 9000)), "PNG")
    with pytest.raises(PhotoError, match="9000×9000 pixels, more than"):
        open_image(flat, "huge.png")


def test_a_hole_in_a_huge_jpeg_is_noticed(tmp_path):
    """C6, relatives: zeros in the middle of the data."""
    data = bytearray(huge(tmp_path / "hole.jpg", (12000, 9000)).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    with pytest.raises(PhotoError, match=r"hole\.jpg is damaged \("):
        open_image(bytes(data), "hole.jpg")


# C7

HEIC_HEAD = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.mark.parametrize("name", ["a.heic", "a.jpg"])
@pytest.mark.parametrize(
    "head", [HEIC_HEAD, HEIC_HEAD.replace(b"ftypheic", b"ftypmif1"), HEIC_HEAD.replace(b"heic", b"heix")]
)
def test_heic_without_its_package_names_the_format_and_the_package(name, head, monkeypatch):
    """C7: also named .jpg, also where the major brand is the family's."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PhotoError, match=rf"{name} is a HEIC photo: run `pip install pillow-heif` to read it"):
        open_image(head + bytes(500), name)


@pytest.mark.parametrize("orientation", [1, 6])
def test_heic_is_read_with_its_package(orientation, tmp_path):
    """C7: a real HEIC named .jpg, by libheif; turned as it says."""
    import pillow_heif as heif

    image = picture(0, 160, 120)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.jpg"
    heif.from_pillow(stored_as(image, orientation)).save(path, quality=95, exif=exif.tobytes())
    _, pixels = read_square(path, 64)
    (tmp_path / "plain.png").write_bytes(world.encoded(image, "PNG"))
    _, wanted = read_square(tmp_path / "plain.png", 64)
    assert np.abs(pixels.astype(int) - wanted).mean() < 4


def test_avif_is_read_also_named_jpg_and_named_where_pillow_lacks_it(tmp_path, monkeypatch):
    """C7: AVIF, which Pillow's wheels read."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(world.encoded(picture(0), "AVIF", quality=95))
    (tmp_path / "plain.png").write_bytes(world.encoded(picture(0), "PNG"))
    found, wanted = (read_square(tmp_path / name, 64)[1].astype(int) for name in ("photo.jpg", "plain.png"))
    assert np.abs(found - wanted).mean() < 4
    monkeypatch.setattr("jclip_adapter.data.photos.decode.features.check", lambda name: False)
    with pytest.raises(PhotoError, match=r"photo\.jpg is an AVIF photo: run `pip install"):
        read_square(path, 64)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\xff\x0a" + bytes(99), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99), "JPEG XL"),
        (world.encoded(picture(0), "JPEG2000"), "JPEG 2000"),
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(99), "Canon CR2"),
        (b"\0\0\0\x18ftypcrx \0\0\0\0" + bytes(99), "Canon CR3"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(99), "Fujifilm RAF"),
        (world.encoded(picture(0), "TIFF", tiffinfo={50706: bytes((1, 4, 0, 0))}), "camera raw"),
        (world.encoded(picture(0), "TIFF", tiffinfo={254: 1, 330: 8}), "camera raw"),
        (b"8BPS" + bytes(99), "Photoshop"),
        (b"<!DOCTYPE html><html>", "web site"),
    ],
)
def test_formats_that_are_not_read_are_named(data, kind):
    """C7, relatives: a raw file's preview is not taken for the photo."""
    with pytest.raises(PhotoError, match=kind):
        open_image(data, "x.jpg")


# C8 and B2


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        (".jfif", "JPEG"),
        (".JPE", "JPEG"),
        (".mpo", "MPO"),
        (".pgm", "PPM"),
        (".ppm", "PPM"),
        (".pnm", "PPM"),
        (".pbm", "PPM"),
        (".avif", "AVIF"),
        (".dib", "BMP"),
        (".apng", "PNG"),
    ],
)
def test_folders_of_every_ending_that_is_read_are_data_sets(ending, kind, tmp_path):
    """C8, B2: .jfif, .ppm, .pgm, .pnm and the others."""
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        image = picture(label, 30, 20).convert({".pgm": "L", ".pbm": "1"}.get(ending, "RGB"))
        (tmp_path / name / f"1{ending}").write_bytes(world.encoded(image, kind))
    images = load_dataset(tmp_path)
    assert [photo.relative for photo in images.train] == [f"cat/1{ending}", f"dog/1{ending}"]
    for photo in images.train:
        assert read_square(photo.path, 32)[1].shape == (32, 32, 3)


def test_every_ending_of_a_readable_format_is_taken_from_folders():
    """C8: no format is read in one place and passed over in another."""
    Image.init()
    known = {ending for ending, kind in Image.registered_extensions().items() if kind in photo_formats.FORMATS}
    assert known - PHOTO_SUFFIXES == {".pfm"}  # of 32-bit fractions, whose range nothing tells
    assert {".heic", ".heif", ".hif"} <= PHOTO_SUFFIXES


# Transparent pixels


def cut_out(image: Image.Image) -> Image.Image:
    """The picture, of which the left half is transparent, black below."""
    pixels = np.dstack([np.asarray(image.convert("RGB")), np.full(image.size[::-1], 255, np.uint8)])
    pixels[:, : image.width // 2] = 0
    return Image.fromarray(pixels)


@pytest.mark.parametrize("form", ["RGBA", "WebP", "LA", "palette", "GIF", "tRNS", "premultiplied TIFF"])
@pytest.mark.parametrize(("colour", "value"), [("white", 255), ("black", 0), ("grey", 128)])
def test_what_shows_through_transparent_pixels_is_what_was_chosen(form, colour, value):
    """Issue B: alpha of every form."""
    image = cut_out(picture(0, 40, 20))
    half = image.convert("RGB").quantize(200).convert("RGB") if form in ("palette", "GIF") else image.convert("RGB")
    data = {
        "RGBA": lambda: world.encoded(image, "PNG"),
        "WebP": lambda: world.encoded(image, "WEBP", lossless=True),
        "LA": lambda: world.encoded(image.convert("LA"), "PNG"),
        "palette": lambda: world.encoded(image.quantize(200), "PNG"),
        "GIF": lambda: world.encoded(image, "GIF"),
        "tRNS": lambda: world.encoded(image.convert("RGB"), "PNG", transparency=(0, 0, 0)),
        "premultiplied TIFF": lambda: world.encoded(image, "TIFF", tiffinfo={338: 1}),
    }[form]()
    found = np.asarray(open_image(data, "x", Reading(transparent=colour)).convert("RGB")).astype(int)
    assert (found[:, :20] == value).all()
    wanted = np.asarray(half.convert("L").convert("RGB") if form == "LA" else half).astype(int)
    assert np.abs(found[:, 20:] - wanted[:, 20:]).mean() < (12 if form in ("palette", "GIF") else 1)


def test_opaque_photos_stay_as_they_are_and_openais_reading_changes_nothing():
    """Golden preprocessing stays: without transparent pixels nothing is converted; OpenAI's mode keeps the alpha."""
    whole = picture(0, 40, 20)
    whole.putalpha(255)
    assert open_image(world.encoded(whole, "PNG"), "x").mode == "RGBA"
    assert open_image(world.encoded(picture(0).quantize(), "PNG"), "x").mode == "P"
    image = cut_out(picture(0, 40, 20))
    for data in (world.encoded(image, "PNG"), flagged(image, "PNG", 6)):
        kept = open_image(data, "x", OPENAI)
        assert kept.mode == "RGBA"
        assert kept.size == ((40, 20) if data[:200].find(b"eXIf") < 0 else (20, 40))
    np.testing.assert_array_equal(np.asarray(open_image(world.encoded(image, "PNG"), "x", OPENAI)), np.asarray(image))


def test_cut_out_objects_keep_their_accuracy_on_white(tmp_path, accuracy):
    """Issue B: objects whose surroundings are transparent; white keeps what black loses."""

    def save(image, path, _):
        pixels = np.dstack([np.asarray(image), np.zeros(image.size[::-1], np.uint8)])
        rows, columns = np.ogrid[: image.height, : image.width]
        inside = (rows - image.height / 2) ** 2 + (columns - image.width / 2) ** 2 < (0.42 * image.width) ** 2
        pixels[..., 3] = 255 * inside
        Image.fromarray(pixels).save(path, "PNG")

    cut = world.lay_out(tmp_path / "cut", save)
    white, black = accuracy(cut)[0], accuracy(cut, "--transparent", "black")[0]
    assert white > black + 10


def test_the_documented_figures_are_the_measured_ones():
    """Issue B: docs/photos.md has the figures of results/transparency.json."""
    root = ROOT
    found = json.loads((root / "results/transparency.json").read_text(encoding="utf-8"))["zero_shot_top1"]
    text = " ".join((root / "docs/photos.md").read_text(encoding="utf-8").split())
    assert f"on white {100 * found['white']:.1f} %, on grey {100 * found['grey']:.1f} %" in text
    assert f"on black {100 * found['black']:.1f} %, and {100 * found['drop']:.1f} % with the colours dropped" in text
    assert f"the whole photos have {100 * found['whole']:.1f} %" in text


def test_a_run_of_a_version_without_these_choices_is_read_as_it_was_trained():
    """A5: photos of an older run are not turned behind its back."""
    assert Reading(*(trained_with({}, name) for name in Reading._fields)) == OPENAI
    assert trained_with({"exif": "apply"}, "exif") == "apply"
    assert trained_with({}, "split") == "A"
