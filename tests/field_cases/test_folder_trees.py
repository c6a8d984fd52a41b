"""Any tree of folders is refused, or every photo has exactly one class and one split."""

from __future__ import annotations

import itertools
import tempfile
import unicodedata
from pathlib import Path

from hypothesis import event, given, settings
from hypothesis import strategies as st

from jclip_adapter.core.errors import DataError
from jclip_adapter.data.sets import ImageSet, find_labels, load_dataset, remaining

TRAIN = ("train", "Train", "TRAINING", "train_set")
TEST = ("test", "Testing", "TEST", "test-set")
VAL = ("val", "Validation")
FOLDS = ("fold_0", "fold_1", "Fold2")
SESSIONS = ("day1", "day2", "2021-03-04")
DEBRIS = ("__MACOSX", "@eaDir", ".ipynb_checkpoints", "lost+found")
CAFE = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
WORDS = ("cat", "dog", "hen", "Cat", "images", "12", "n02123045", "a b", *CAFE)
ANY = st.sampled_from((*TRAIN, *TEST, *VAL, *FOLDS, *SESSIONS, *DEBRIS, *WORDS))
FILES = st.sampled_from(("1.jpg", "2.JPG", "3.png"))
PATHS = st.lists(st.tuples(st.lists(ANY, min_size=0, max_size=4), FILES), min_size=1, max_size=8)


def lay_out(root: Path, paths: list[tuple[tuple[str, ...], str]]) -> set[Path]:
    """Make the photos; returns those that no debris or hidden folder holds."""
    for folders, name in paths:
        (root / Path(*folders)).mkdir(parents=True, exist_ok=True)
        (root / Path(*folders) / name).touch()
    return {root / Path(*folders) / name for folders, name in paths if not set(folders) & set(DEBRIS)}


def is_part(name: str, names: tuple[str, ...]) -> bool:
    return name.casefold() in {each.casefold() for each in names}


def check(root: Path, meant: set[Path], data: ImageSet) -> None:
    """What holds of every data set that is read, told from paths alone."""
    train, test = [photo.path for photo in data.train], [photo.path for photo in data.test]
    assert len({*train, *test}) == len(train) + len(test), "no photo stands twice"
    said = " ".join(data.notes)
    for path in meant - {*train, *test}:
        outer = path.relative_to(root).parts
        # Left out: only beside splits, and only with a word that names the folder.
        assert "read, not" in said or "are in no split" in said, path
        assert any(part in said for part in outer[:-1]) or "are in no split" in said, path
    assert {*train, *test} <= meant, "debris is no data"
    answers = find_labels(data)
    folded = [name.casefold() for name in data.class_names]
    assert len(set(folded)) == len(folded), "no class twice"
    labelled = [(photo.path, data.class_names[photo.label]) for photo in data.train if photo.label is not None]
    assert len(labelled) == len(train), "every training photo has a class"
    labelled += [
        (photo.path, data.class_names[answers[photo.relative]]) for photo in data.test if photo.relative in answers
    ]
    for path, name in labelled:
        parts = [unicodedata.normalize("NFC", part) for part in path.relative_to(root).parts[:-1]]
        pairs = [f"{one}_{two}" for one, two in itertools.pairwise(parts)]
        assert name in {*parts, *pairs}, "a class is called as its folder, or its domain and its folder"
    for path in train:
        assert not [part for part in path.relative_to(root).parts if is_part(part, (*TEST, *VAL))], path
    for path in test:
        assert [part for part in path.relative_to(root).parts if is_part(part, TEST)], path
    for name in data.class_names:
        assert not is_part(name, (*TEST, *VAL, *FOLDS)), name
        assert not is_part(name, TRAIN) or len(data.class_names) > 1, "the vehicle, beside others"


@settings(max_examples=300, deadline=None)
@given(PATHS, st.lists(st.lists(ANY, min_size=1, max_size=3), max_size=2))
def test_any_tree_is_refused_or_parted(paths, empty):
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve() / "data"
        root.mkdir()
        meant = lay_out(root, [(tuple(folders), file) for folders, file in paths])
        for folders in empty:
            (root / Path(*folders)).mkdir(parents=True, exist_ok=True)
        try:
            data = load_dataset(root)
        except DataError as error:
            assert "\n" not in str(error)
            event("refused")
            return
        event("read")
        check(root, meant, data)


STRUCTURE = st.fixed_dictionaries(
    {
        "classes": st.lists(st.sampled_from(("cat", "dog", "hen", CAFE[0])), min_size=2, max_size=3, unique=True),
        "splits": st.one_of(st.none(), st.tuples(st.sampled_from(TRAIN), st.sampled_from(TEST))),
        "folds": st.booleans(),
        "sessions": st.booleans(),
        "wrapper": st.sampled_from((None, "images", "my photos")),
        "nfd": st.booleans(),
        "domains": st.booleans(),
    }
)


@settings(max_examples=150, deadline=None)
@given(STRUCTURE)
def test_a_tree_that_people_make_is_read_as_they_mean_it(structure):
    """The classes, splits, folds, sessions and wrapper are known; the reading has to find the same."""
    classes, splits = structure["classes"], structure["splits"]
    domain_of = {name: f"Kind{number % 2}" for number, name in enumerate(classes)} if structure["domains"] else {}
    with tempfile.TemporaryDirectory() as place:
        root = Path(place).resolve() / "data"
        paths = []
        for part in splits or ("",):
            for fold in ("fold_0", "fold_1") if structure["folds"] and part != (splits or ("", ""))[1] else ("",):
                for name in classes:
                    written = (
                        unicodedata.normalize("NFD", name)
                        if structure["nfd"] and splits and part == splits[1]
                        else name
                    )
                    for session in ("day1", "day2") if structure["sessions"] and not domain_of else ("",):
                        parts = (structure["wrapper"] or "", part, fold, domain_of.get(name, ""), written, session)
                        paths.append((tuple(each for each in parts if each), "1.jpg"))
        meant = lay_out(root, paths)
        data = load_dataset(root)
        truth = {f"{domain_of[name]}_{name}" if domain_of else name for name in classes}
        assert set(data.class_names) == truth
        assert {photo.path for photo in (*data.train, *data.test)} == meant
        assert set(find_labels(data).values()) == (set(range(len(classes))) if splits else set())
        check(root, meant, data)


@given(
    st.lists(
        st.tuples(st.sampled_from(("cat", "dog")), st.booleans(), st.booleans()), min_size=2, max_size=6, unique=True
    )
)
@settings(max_examples=40, deadline=None)
def test_links_are_inside_or_refused(entries):
    """Photos that are links: (class, whether a link, whether it leads out of the data folder)."""
    with tempfile.TemporaryDirectory() as place:
        base = Path(place).resolve()
        for number, (name, link, outside) in enumerate(entries):
            photo = base / "data" / name / f"{number}.jpg"
            target = (base / "store" if outside and link else base / "data" / name) / f"target{number}.jpg"
            for path in (photo, target) if link else (photo,):
                path.parent.mkdir(parents=True, exist_ok=True)
            if link:
                target.touch()
                photo.symlink_to(target)
            else:
                photo.touch()
        leading_out = sum(link and outside for _, link, outside in entries)
        try:
            remaining(load_dataset(base / "data"), ())
            refused = 0
        except DataError as error:
            refused = len([line for line in error.details if "--follow-links" in str(error) or "leads out" in line])
        assert refused == leading_out
        remaining(load_dataset(base / "data", follow_links=True), ())
