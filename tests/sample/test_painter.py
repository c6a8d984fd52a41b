"""The painter: same seed, same bytes; the contest's layout; drawn once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jclip_adapter import storage
from jclip_adapter.dataset import find_labels, load_dataset
from jclip_adapter.errors import DataError, SetupError
from jclip_adapter.sample import ensure_sample, painter
from jclip_adapter.sample.canvas import shade
from jclip_adapter.sample.classes import CLASSES, KINDS
from jclip_adapter.sample.contact_sheet import write_contact_sheet
from jclip_adapter.sample.painter import BOOK_STYLE, PHOTO_STYLE, paint, picture_rng, write_sample

FEW = (CLASSES[0], CLASSES[9], CLASSES[-1])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, train_per_class=3, test_per_class=2, classes=FEW)
    return folder


@pytest.fixture
def small(monkeypatch):
    """Let `ensure_sample` draw three classes of two photos, and count how often it does."""
    calls = []

    def draw(folder):
        calls.append(folder)
        write_sample(folder, train_per_class=1, test_per_class=1, classes=FEW)

    monkeypatch.setattr(painter, "write_sample", draw)
    return calls


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
    assert storage.check_manifest(tmp_path / "again") == storage.check_manifest(drawn)
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


def test_the_sample_is_drawn_once(small, tmp_path):
    root = tmp_path / "photos"
    assert ensure_sample(root) == root
    before = (root / storage.MANIFEST).stat().st_mtime_ns
    assert ensure_sample(root) == root
    assert len(small) == 1
    assert (root / storage.MANIFEST).stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_damaged_or_older_sample_is_drawn_anew(small, tmp_path, monkeypatch):
    root = ensure_sample(tmp_path / "photos")
    (root / "TestSetA" / "image_1.jpg").write_bytes(b"")
    ensure_sample(root)
    assert (root / "TestSetA" / "image_1.jpg").stat().st_size > 0
    monkeypatch.setattr(painter, "VERSION", painter.VERSION + 1)
    ensure_sample(root)
    assert len(small) == 3


def test_a_folder_of_something_else_is_left_alone(small, tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(DataError, match="is no sample"):
        ensure_sample(tmp_path)
    assert (tmp_path / "holiday.jpg").read_bytes() == b"mine"
    assert small == []


def test_a_stopped_run_leaves_nothing_behind(tmp_path, monkeypatch):
    def stopped(folder):
        write_sample(folder, train_per_class=1, test_per_class=1, classes=FEW[:1])
        raise KeyboardInterrupt

    monkeypatch.setattr(painter, "write_sample", stopped)
    with pytest.raises(KeyboardInterrupt):
        ensure_sample(tmp_path / "photos")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot write"):
        ensure_sample(tmp_path / "file" / "photos")


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
