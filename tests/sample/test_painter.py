"""The painter: same seed, same bytes; the contest's layout; the archive of the repository."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jclip_adapter.data.sample import PHOTOS
from jclip_adapter.data.sets import find_labels, load_dataset
from tools.sample import painter
from tools.sample.canvas import shade
from tools.sample.classes import CLASSES, KINDS
from tools.sample.contact_sheet import write_contact_sheet
from tools.sample.painter import BOOK_STYLE, PHOTO_STYLE, pack, paint, picture_rng, write_sample

FEW = (CLASSES[0], CLASSES[9], CLASSES[-1])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, train_per_class=3, test_per_class=2, classes=FEW)
    return folder


def pixels(kind, style, seed=1, index=0):
    return np.asarray(paint(kind, style, picture_rng(seed, "train", 0, index)))


def test_there_are_at_least_forty_classes_with_names_of_their_own():
    names = [kind.name for kind in CLASSES]
    assert len(names) >= 40
    assert len({name.lower() for name in names}) == len(names)
    assert {kind.domain for kind in CLASSES} == set(KINDS) == {"Animal", "Caltech-101", "Food-101", "Thu-dog"}
    assert all(name.replace("_", "").replace("-", "").isalnum() for name in names)


def test_the_contest_s_names_are_used(request):
    known = (request.config.rootpath / "tests" / "fixtures" / "contest_classes_b.txt").read_text().split()
    assert [kind.name for kind in CLASSES if kind.name not in known] == []


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.name)
def test_every_class_is_drawn_in_both_styles(kind):
    for style in (PHOTO_STYLE, BOOK_STYLE):
        picture = pixels(kind, style)
        assert picture.shape == (painter.PHOTO_SIZE, painter.PHOTO_SIZE, 3)
        assert picture.std() > 10


def test_pictures_depend_on_seed_index_and_class_only():
    first = pixels(CLASSES[0], PHOTO_STYLE)
    np.testing.assert_array_equal(first, pixels(CLASSES[0], PHOTO_STYLE))
    for other in (
        pixels(CLASSES[0], PHOTO_STYLE, index=1),
        pixels(CLASSES[0], PHOTO_STYLE, seed=2),
        pixels(CLASSES[1], PHOTO_STYLE),
        pixels(CLASSES[0], BOOK_STYLE),
    ):
        assert np.abs(first.astype(int) - other).mean() > 1


def test_the_same_seed_gives_the_same_bytes(drawn, tmp_path):
    write_sample(tmp_path / "again", train_per_class=3, test_per_class=2, classes=FEW)
    assert pack(tmp_path / "again") == pack(drawn)
    write_sample(tmp_path / "other", seed=1, train_per_class=3, test_per_class=2, classes=FEW)
    photo = "TrainSet/Animal/Bear/1.jpg"
    assert (tmp_path / "other" / photo).read_bytes() != (drawn / photo).read_bytes()


def test_a_class_s_photos_do_not_depend_on_how_many_are_drawn(drawn, tmp_path):
    write_sample(tmp_path, train_per_class=1, test_per_class=1, classes=FEW[:1])
    photo = "TrainSet/Animal/Bear/1.jpg"
    assert (tmp_path / photo).read_bytes() == (drawn / photo).read_bytes()


def test_the_layout_is_the_contest_s(drawn):
    assert (drawn / "classes.txt").read_text() == "".join(f"{kind.name} {i}\n" for i, kind in enumerate(FEW))
    train = (drawn / "train.txt").read_text().splitlines()
    assert train[0] == "TrainSet/Animal/Bear/1.jpg 0"
    assert [line.split()[1] for line in train] == ["0"] * 3 + ["1"] * 3 + ["2"] * 3
    assert {line.split()[0] for line in train} == {str(p.relative_to(drawn)) for p in drawn.glob("TrainSet/*/*/*.jpg")}
    labels = [line.split() for line in (drawn / "TestSetA_labels.txt").read_text().splitlines()]
    assert [name for name, _ in labels] == [f"image_{number}.jpg" for number in range(1, 7)]
    assert sorted(label for _, label in labels) == ["0", "0", "1", "1", "2", "2"]
    assert {path.name for path in (drawn / "TestSetA").iterdir()} == {name for name, _ in labels}


def test_the_data_set_reader_takes_it(drawn):
    images = load_dataset(drawn)
    assert [len(images.train), len(images.test), len(images.class_names)] == [9, 6, 3]
    assert len(find_labels(images)) == 6


def test_the_test_photos_are_shuffled(tmp_path):
    write_sample(tmp_path, train_per_class=1, test_per_class=5, classes=FEW)
    labels = [line.split()[1] for line in (tmp_path / "TestSetA_labels.txt").read_text().splitlines()]
    assert labels != sorted(labels)


def test_photos_are_small_jpegs(drawn):
    path = drawn / "TestSetA" / "image_1.jpg"
    with Image.open(path) as photo:
        assert (photo.format, photo.mode, photo.size) == ("JPEG", "RGB", (96, 96))
    assert path.stat().st_size < 10_000


def test_the_archive_holds_what_is_drawn_now():
    """One photo of each class and split; a change of the painter asks for `python -m tools.sample.painter`."""
    with zipfile.ZipFile(PHOTOS) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    assert len(held) == 3 + len(CLASSES) * (painter.TRAIN_PER_CLASS + painter.TEST_PER_CLASS)
    labels = [line.split() for line in held["TestSetA_labels.txt"].decode().splitlines()]
    assert sorted({int(label) for _, label in labels}) == list(range(len(CLASSES)))
    for number, kind in enumerate(CLASSES):
        photo = Image.open(io.BytesIO(held[f"TrainSet/{kind.domain}/{kind.folder}/1.jpg"]))
        again = paint(kind, PHOTO_STYLE, picture_rng(painter.SEED, "train", number, 0))
        assert np.abs(np.asarray(photo).astype(int) - np.asarray(again)).mean() < 8  # JPEG


def test_packing_is_the_same_for_the_same_files(drawn, tmp_path):
    write_sample(tmp_path, train_per_class=3, test_per_class=2, classes=FEW)
    assert pack(tmp_path) == pack(drawn)


def test_the_contact_sheet_is_small(tmp_path):
    write_contact_sheet(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > 1000
    assert (tmp_path / "sheet.png").stat().st_size < 300_000


@given(st.tuples(*[st.integers(0, 255)] * 3), st.floats(0, 2, allow_subnormal=False))
def test_shades_stay_colours(colour, factor):
    shaded = shade(colour, factor)
    assert all(0 <= channel <= 255 for channel in shaded)
    assert all((new <= old) if factor <= 1 else (new >= old) for old, new in zip(colour, shaded, strict=True))
