"""Sounds are read in ESC-50's layout, from class folders, and from folders that hold photos too."""

from __future__ import annotations

from pathlib import Path

import pytest

from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.data.sets import ImageSet, load_dataset, with_classes
from jclip_adapter.data.sets.kind import find_kind
from jclip_adapter.data.texts.imagenet import _load, wordnet_name
from jclip_adapter.data.texts.imagenet_esc import benchmark_classes
from tests import ROOT

HEADER = "filename,fold,target,category,esc10,src_file,take"


def esc50(root: Path, categories: dict[str, int], takes: int = 8) -> Path:
    """ESC-50's layout with empty files; the rows of a fold alternate between categories, as in the original."""
    (root / "audio").mkdir(parents=True)
    (root / "meta").mkdir()
    lines = [HEADER]
    for fold in range(1, 6):
        for take in range(takes):
            for category, target in categories.items():
                name = f"{fold}-{100 * target + take}-A-{target}.wav"
                (root / "audio" / name).touch()
                lines.append(f"{name},{fold},{target},{category},False,{100 * target + take},A")
    (root / "meta/esc50.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return esc50(tmp_path / "ESC-50", {"rooster": 1, "dog": 0, "hen": 6})


def read(root: Path) -> ImageSet:
    return load_dataset(root, kind="sound")


def test_esc50(root: Path) -> None:
    found = read(root)
    assert found.class_names == ("dog", "rooster", "hen")
    assert found.class_ids == (0, 1, 6)
    assert len(found.train) == len(found.folds) == 120
    assert (found.train[0].relative, found.train[0].label, found.folds[0]) == ("audio/1-100-A-1.wav", 1, 1)
    assert found.summary == "3 classes, 120 sounds, read as ESC-50's audio/ and meta/esc50.csv"


def test_some_classes_in_another_order(root: Path) -> None:
    found = with_classes(read(root), ["hen", "dog"])
    assert found.class_names == ("hen", "dog")
    assert {sound.label for sound in found.train if sound.relative.endswith("-0.wav")} == {1}
    assert len(found.train) == len(found.folds) == 80
    with pytest.raises(DataError, match=r"has no class dogs.*Did you mean 'dog'"):
        with_classes(found, ["dogs"])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("../../x.wav,1,0,dog", "leaves the data folder"),
        ("/x.wav,1,0,dog", "refused"),
        ("x.txt,1,0,dog", "not a sound by its suffix"),
        ("1-0-A-0.wav,6,0,dog", "fold '6'"),
        ("1-0-A-0.wav,1,-1,dog", "target '-1'"),
        ("1-0-A-0.wav,1,0,cat", "0 is dog and cat"),
        ("1-0-A-0.wav,1,9,dog", "with another fold or target"),
        ("new.wav,1,9,dog", "dog has several targets"),
        ("1-0-A-0.wav,2,0,dog", "with another fold or target"),
        ("1-0-A-0.wav,1,0,", "the category ''"),
        ("none.wav,1,0,dog", "audio/none.wav does not exist"),
        ("1-0-A-0.wav,1,0", "has 6 cells, not 7"),
    ],
)
def test_a_damaged_table(line: str, words: str, root: Path) -> None:
    with (root / "meta/esc50.csv").open("a", encoding="utf-8") as table:
        table.write(f"{line},False,0,A\n")
    with pytest.raises(DataError) as caught:
        read(root)
    assert words in f"{caught.value.message} {caught.value.details}"


def test_a_table_without_columns(root: Path) -> None:
    (root / "meta/esc50.csv").write_text("filename,label\n", encoding="utf-8")
    with pytest.raises(DataError, match="expected the columns filename, fold, target, category, found filename, label"):
        read(root)
    (root / "meta/esc50.csv").write_text(HEADER + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="names no sound"):
        read(root)


def touch(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def test_folders_of_photos_and_sounds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = touch(tmp_path / "data", "cat/1.jpg", "cat/2.jpg", "cat/a.WAV", "dog/1.jpg", "dog/a.flac", "dog/notes.txt")
    photos, sounds = load_dataset(root), read(root)
    assert [photo.relative for photo in photos.train] == ["cat/1.jpg", "cat/2.jpg", "dog/1.jpg"]
    assert [sound.relative for sound in sounds.train] == ["cat/a.WAV", "dog/a.flac"]
    assert photos.class_names == sounds.class_names == ("cat", "dog")
    assert (photos.kind, sounds.kind) == ("photo", "sound")
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "ignored 1 file without a photo's suffix",
        "ignored 1 file without a sound's suffix",
    ]


def test_folders_of_sounds(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", "train/bell/1.wav", "train/sea/1.ogg", "test/bell/7.mp3", "test/sea/9.opus")
    found = read(root)
    assert found.class_names == ("bell", "sea")
    assert found.test_names == ("bell/7.mp3", "sea/9.opus")
    assert (
        found.summary == "2 classes, 2 training sounds, 2 test sounds, read as train/class/sound and test/class/sound"
    )
    with pytest.raises(DataError, match="no folder of photos"):
        load_dataset(root)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["bell/1.wav", "sea/1.ogg"], "sound"),
        (["bell/1.wav", "sea/1.ogg", "cover.jpg"], "sound"),
        (["bell/1.wav", "bell/1.jpg"], "photo"),
        (["train/bell/1.jpg"], "photo"),
        (["meta/esc50.csv", "audio/1.wav", "docs/picture.png"], "sound"),
        (["notes.txt"], "photo"),
    ],
)
def test_what_a_folder_holds(names: list[str], kind: str, tmp_path: Path) -> None:
    assert find_kind(touch(tmp_path / "data", *names)) == kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("path,label\na/1.wav,bell\n", "sound"),
        ("path;label\n'x';a.jpg\n", "photo"),
        ("label\tpath\nbell\t1.MP3\n", "sound"),
    ],
)
def test_what_a_table_lists(text: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(text)
    assert find_kind(tmp_path / "list.csv") == kind
    assert find_kind(tmp_path / "missing") == "photo"


def test_photos_only(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder of sounds") as caught:
        read(touch(tmp_path / "data", "cat/1.jpg", "dog/1.jpg"))
    assert "meta/esc50.csv" in str(caught.value)


def test_a_table_of_sounds(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", "a.wav", "b.wav")
    (root / "list.csv").write_text("path,label\na.wav,bell\nb.wav,sea\n", encoding="utf-8")
    found = read(root)
    assert (found.kind, found.class_names) == ("sound", ("bell", "sea"))
    assert read(root / "list.csv").kind == "sound"


def test_the_benchmark_s_classes() -> None:
    small, large = benchmark_classes(19), benchmark_classes(27)
    assert (len(small), len(large)) == (19, 27)
    assert set(small) < set(large)
    synsets = _load(ROOT / "prompts").synsets
    for each in large:
        assert synsets[each.wordnet] == each.imagenet
        assert wordnet_name(each.wordnet)
    assert [each.imagenet for each in large] == sorted(each.imagenet for each in large)
    assert len({each.category for each in large}) == len({each.target for each in large}) == 27
    assert (small[4].text, small[4].category, small[4].target) == ("Otterhound", "dog", 0)
    with pytest.raises(UsageError, match="expected 19 or 27"):
        benchmark_classes(20)


@pytest.mark.golden
def test_the_golden_file_has_the_same_classes() -> None:
    from tests.golden_files import Golden

    wanted = Golden("imagenet_esc").facts["class_map"]
    for size in (19, 27):
        found = {str(each.imagenet): each.category for each in benchmark_classes(size)}
        assert found == wanted[f"imagenet_{size}"]
