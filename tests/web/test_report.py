"""The report as a browser reads it: strict HTML, no address elsewhere, hostile names, both languages, its size."""

from __future__ import annotations

import base64
import hashlib
import re
import string
import time
from pathlib import Path
from xml.etree.ElementTree import Element

import html5lib
import numpy as np
import pytest
from PIL import Image

from jclip_adapter.core.errors import UsageError
from jclip_adapter.data.photos.reading import AS_SEEN
from jclip_adapter.data.predictions import Predictions
from jclip_adapter.data.sets import ClassInfo, ImageSet, Photo
from jclip_adapter.evaluation.metrics import by_domain, confusion_matrix, worst_pairs
from jclip_adapter.evaluation.report import confusion_picture, reliability_picture
from jclip_adapter.storage import Kind
from jclip_adapter.storage.checksums import MARKDOWN_MARK
from jclip_adapter.storage.kinds import unchanged_text
from jclip_adapter.web import parts as parts_module
from jclip_adapter.web.cards import Card, thumbnails_of
from jclip_adapter.web.parts import Context, evaluation_part, prediction_part, training_part
from jclip_adapter.web.report import PARTS, parts_of, shown, write_report
from jclip_adapter.web.texts import LANGUAGES, TEXTS

KIND = Kind("a report", unchanged_text(MARKDOWN_MARK))
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "\"'><script>alert(1)</script>",
    "\u202egnp.exe\u202c",
    "{{ 7 * 7 }}{% raw %}",
    "<!-- end: evaluation -->",
    "a\x01b\ufdd0",
    "猫_cat",
)
MOST = 5_000_000
FACTS = {
    "settings": {"data": "photos", "weights": "ViT-B/32", "method": "gda", "shots": 2, "strict": False},
    "hyperparameters": {"alpha": 1.0},
    "weights_sha256": "0" * 64,
    "versions": {"python": "3.11"},
}


def checked(path: Path) -> Element:
    """The page, parsed strictly; it loads nothing, its references within the page lead somewhere."""
    text = path.read_text(encoding="utf-8")
    tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)
    names = [element.get("id") for element in tree.iter() if element.get("id")]
    assert len(names) == len(set(names))
    for element in tree.iter():
        for name, value in element.attrib.items():
            assert not str(name).startswith("on"), name
            if name in ("src", "href", "action", "data", "poster", "srcset"):
                assert value.startswith(("data:image/", "#")), value[:80]
                assert not value.startswith("#") or value[1:] in names
            if name in ("aria-labelledby",):
                assert value in names
        if element.tag == "img":
            assert element.get("alt")
        assert element.tag not in ("link", "iframe", "object", "embed", "base", "form")
    (script,) = (each for each in tree.iter() if each.tag == "script")
    digest = base64.b64encode(hashlib.sha256((script.text or "").encode()).digest()).decode()
    (policy,) = (each.get("content", "") for each in tree.iter("meta") if each.get("http-equiv"))
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not re.search(r"url\(|@import|https?:", re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL))
    return tree


def words(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def image_set(folder: Path, names, per_class: int, kind="photo", size=(160, 120)) -> ImageSet:
    """Classes with photos, whose names are hostile where the file system allows."""
    photos = []
    folder.mkdir(exist_ok=True)
    for label in range(len(names)):
        for number in range(per_class):
            name = f"{label}_<b>&\u202e_{number}.jpg"
            pixels = np.random.default_rng([label, number]).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name, "JPEG", quality=85)
            photos.append(Photo(folder, name, label))
    classes = tuple(ClassInfo(number, name, "", "") for number, name in enumerate(names))
    return ImageSet("set", folder, "folders", classes, tuple(photos), tuple(photos), kind=kind)


def context(images: ImageSet, language: str = "en") -> Context:
    return Context(language, images, AS_SEEN, "gda", "jclip-adapter evaluate --data 'a <b>'")


def predictions(images: ImageSet, errors=None, known=None) -> Predictions:
    """Random predictions for the photos that can be read."""
    errors = errors or {}
    rng, count = np.random.default_rng(0), len(images.test) - len(errors)
    shares = rng.dirichlet(np.full(len(images.classes), 0.3), count)
    names = [photo.relative for photo in images.test]
    truth = [images.class_names[photo.label] for photo in images.test]
    return Predictions(names, errors, images.class_names, np.argsort(-shares)[:, :5], shares, known, truth)


def evaluation(images: ImageSet, found: Predictions, **more) -> dict:
    """As the command writes it to evaluation.json."""
    logits = np.zeros((len(images.test), len(images.classes)))
    readable = np.array([place not in found.errors for place in range(len(images.test))])
    logits[readable] = found.probabilities
    truth = np.array([photo.label for photo in images.test])
    scores = [score.in_percent() for score in by_domain(logits, truth, images.domains, readable)]
    return {
        "scores": scores,
        "zero_shot": scores,
        "baseline": "zero-shot",
        "method": "gda",
        "transductive": False,
        "unreadable": len(found.errors),
        "calibration_error": 3.2,
        "learning_curve": [{"shots": 1, "correct": 3, "tested": 4}],
        "seen_and_unseen": {},
        "overlap": {"identical": 0, "near_duplicates": 0, "without": {}},
        "reject": {},
        **more,
    }


def pictures(images: ImageSet, found: Predictions):
    truth = np.array([photo.label for place, photo in enumerate(images.test) if place not in found.errors])
    confusion = confusion_matrix(truth, found.best[:, 0], len(images.classes))
    return (
        confusion_picture(confusion, images.class_names, images.domains),
        reliability_picture(found.probabilities, truth, "gda"),
    )


def metrics(images: ImageSet) -> dict:
    photo, names = images.train[0], images.class_names
    return {
        "estimate": {"top1": 80.0, "interval": [70.0, 90.0], "held_out": 12},
        "support": {"baseline": "zero-shot", "zero_shot_top1": 60.0, "trained_top1": 90.0},
        "doubtful": [{"photo": photo.relative, "class": names[0], "fits_better": names[1]}],
    }


def whole(path: Path, images: ImageSet, language: str = "en", found: Predictions | None = None, **more) -> Element:
    """A report with all parts of a run."""
    found = found or predictions(images)
    paths = [photo.path for photo in images.test]
    report = evaluation(images, found, **more)
    parts = {
        "training": training_part(context(images, language), FACTS, metrics(images), images.train, b""),
        "prediction": prediction_part(context(images, language), paths, found, "result.csv", 0.1),
        "evaluation": evaluation_part(context(images, language), images.test, found, report, pictures(images, found)),
    }
    write_report(path, KIND, HOSTILE[0], language, parts)
    return checked(path)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return image_set(tmp_path_factory.mktemp("few") / "photos", HOSTILE, 3)


@pytest.mark.parametrize("language", LANGUAGES)
def test_hostile_names_are_shown_and_do_nothing(language, few, tmp_path):
    known = np.arange(20) % 2 == 0
    found = predictions(few, {4: "4 <img onerror=x> cannot\nbe read\udcff."}, known)
    refused = {"rate": 10.0, "kept": 50.0, "kept_interval": [30.0, 70.0], "top1_of_kept": 10.0}
    tree = whole(tmp_path / "report.html", few, language, found, reject=refused, transductive=True)
    text = words(tree)
    for name in HOSTILE:
        assert shown(name) in text.replace("\u200b", "")
    assert r"cannot\nbe read\udcff." in text
    for name in few.class_names:  # a name that is written from right to left ends where it ends
        assert any(words(cell) == shown(name) for cell in tree.iter("bdi")), name
    languages = {part.get("lang") for part in tree.iter("section") if part.get("class") == "part"}
    assert languages == {LANGUAGES[language]} == {tree.get("lang")}


def test_what_an_evaluation_shows(few, tmp_path):
    found = predictions(few, {4: "broken"}, np.arange(20) % 2 == 0)
    refused = {"rate": 10.0, "kept": 50.0, "kept_interval": [30.0, 70.0], "top1_of_kept": 10.0}
    tree = whole(tmp_path / "report.html", few, "en", found, reject=refused)
    sections = {section.get("aria-labelledby"): section for section in tree.iter("section")}
    truth = np.array([photo.label for place, photo in enumerate(few.test) if place != 4])
    best, names = found.best[:, 0], few.class_names
    share = found.probabilities.max(axis=1)
    order = [int(row) for row in np.argsort(-share) if best[row] != truth[row]]
    places = [place for place in range(21) if place != 4]
    cards = [[words(each) for each in card.iter("bdi")] for card in sections["evaluation-errors"].iter("li")]
    assert [card[0] for card in cards] == [shown(names[best[row]]) for row in order[:24]]
    assert [card[-1] for card in cards] == [shown(few.test[places[row]].relative) for row in order[:24]]
    least = [words(card) for card in sections["evaluation-uncertain"].iter("li")]
    assert len(least) == 20
    assert f"{100 * share.min():.0f}\u00a0%".replace("\u00a0", " ") in least[0]
    assert len(list(sections["evaluation-rejected"].iter("li"))) == 10
    assert "broken" in words(sections["evaluation-unreadable"])
    pairs = worst_pairs(confusion_matrix(truth, best, len(names)), names)
    titles = [words(each) for each in sections["evaluation-confusions"].iter("h4")]
    assert titles[0].startswith(f"{shown(pairs[0].true)} predicted as {shown(pairs[0].predicted)}")
    rows = [[words(cell) for cell in row] for row in next(sections["evaluation-accuracy"].iter("tbody"))]
    assert sorted(row[0] for row in rows) == sorted(shown(name) for name in names)
    assert {row[1] for row in rows} == {"3"}
    right = {shown(name): int(((best == label) & (truth == label)).sum()) for label, name in enumerate(names)}
    assert [row[2] for row in rows] == [f"{100 * right[row[0]] / 3:.1f} %" for row in rows]
    assert [float(row[2][:-2]) for row in rows] == sorted(float(row[2][:-2]) for row in rows)
    doubtful = words(sections["training-doubtful"])
    assert f"fits {shown(names[1])} better" in doubtful
    assert len(list(sections["training-shots"].iter("img"))) == 21
    tables = {words(next(each.iter("summary"))): each for each in sections["training-settings"].iter("details")}
    found = {
        name: [[words(cell) for cell in row] for row in next(table.iter("tbody"))] for name, table in tables.items()
    }
    assert found["Weights"] == [["weights_sha256", "0" * 64]]
    assert found["Hyper-parameters"] == [["alpha", "1.0"]]
    assert ["--shots", "2"] in found["Options"]
    assert "--strict" not in [row[0] for row in found["Options"]]


def test_parts_replace_themselves_and_leave_others(few, tmp_path):
    path = tmp_path / "report.html"
    found = predictions(few)
    whole(path, few)
    before = parts_of(path, KIND)
    assert set(before) == {"evaluation", "prediction", "training"}
    part = prediction_part(context(few, "zh"), [photo.path for photo in few.test], found, "other.csv", None)
    write_report(path, KIND, "run", "en", {"prediction": part})
    after = parts_of(path, KIND)
    assert {name: after[name] for name in ("evaluation", "training")} == {
        name: before[name] for name in ("evaluation", "training")
    }
    assert "other.csv" in after["prediction"]
    assert "result.csv" not in after["prediction"]
    tree = checked(path)
    parts = [part for part in tree.iter("section") if part.get("class") == "part"]
    assert [part.get("aria-labelledby") for part in parts] == [name for name in PARTS if name in after]
    assert [part.get("lang") for part in parts] == ["en", "zh-Hans", "en"]


def test_equal_parts_give_equal_bytes(few, tmp_path):
    whole(tmp_path / "a.html", few)
    whole(tmp_path / "b.html", few)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_only_its_own_report_is_replaced(few, tmp_path):
    path = tmp_path / "report.html"
    write_report(path, KIND, "run", "en", {"training": "<p>1</p>"})
    path.write_text(path.read_text().replace("<p>1</p>", "<p>mine</p>"))
    assert parts_of(path, KIND) == {}
    with pytest.raises(UsageError, match="is not a report as this program wrote it"):
        write_report(path, KIND, "run", "en", {"training": "<p>2</p>"})
    assert "<p>mine</p>" in path.read_text()


def test_a_photo_that_is_gone_has_words_in_its_place(tmp_path):
    images = image_set(tmp_path / "photos", ("a", "b"), 2)
    found = predictions(images)
    images.test[0].path.unlink()
    images.test[1].path.write_bytes(b"<svg onload='alert(1)'>")
    tree = whole(tmp_path / "report.html", images, found=found)
    (section,) = (each for each in tree.iter("section") if each.get("aria-labelledby") == "evaluation-uncertain")
    cards = {words(card).split()[-1]: card for card in section.iter("li")}
    gone = [card for card in cards.values() if "no thumbnail" in words(card)]
    assert len(cards) == 4
    assert len(gone) == 2
    assert all(not list(card.iter("img")) for card in gone)


def test_sounds_have_no_thumbnails(tmp_path, monkeypatch):
    images = image_set(tmp_path / "sounds", ("a", "b"), 2, kind="sound")
    monkeypatch.setattr(parts_module, "thumbnails_of", lambda *_: pytest.fail("a sound is no photo"))
    tree = whole(tmp_path / "report.html", images)
    assert "4 labelled test sounds" in words(tree)
    assert {image.get("src", "")[:14] for image in tree.iter("img")} == {"data:image/png"}


def test_no_error_is_said_in_words(tmp_path):
    images = image_set(tmp_path / "photos", ("a", "b"), 2)
    shares = np.eye(2)[[photo.label for photo in images.test]]
    names = [photo.relative for photo in images.test]
    truth = [images.class_names[photo.label] for photo in images.test]
    found = Predictions(names, {}, ("a", "b"), np.argsort(-shares), shares, None, truth)
    tree = whole(tmp_path / "report.html", images, found=found)
    assert "No error was found." in words(tree)
    assert "evaluation-errors" not in [each.get("id") for each in tree.iter()]


def test_a_thousand_photos_of_374_classes_take_seconds_and_few_megabytes(tmp_path):
    """Noise, which compresses worst; more classes than are shown, and the limits say so."""
    names = [f"Domain-{label % 4}_a rather long name of class {label}" for label in range(374)]
    images = image_set(tmp_path / "photos", names, 3)
    found = predictions(images, known=np.ones(1122, dtype=bool) & (np.arange(1122) % 3 > 0))
    refused = {"rate": 10.0, "kept": 50.0, "kept_interval": [30.0, 70.0], "top1_of_kept": 10.0}
    started = time.monotonic()
    tree = whole(tmp_path / "report.html", images, found=found, reject=refused)
    assert time.monotonic() - started < 60  # about 3 s on an idle core, most of it the two pictures
    size = (tmp_path / "report.html").stat().st_size
    assert 1_000_000 < size < MOST
    assert "60 of 374 classes are shown" in words(tree)
    assert "24 of 374 are shown" in words(tree)


def test_thumbnails_stay_within_their_bytes(few):
    cards = [Card(photo.path, photo.relative) for photo in few.test]
    every = thumbnails_of([*cards, *cards], 96, 10**9, AS_SEEN)
    assert all(every.values())
    most = sum(2 * len(uri) for uri in list(every.values())[:5])
    some = thumbnails_of([*cards, *cards], 96, most, AS_SEEN)
    assert [bool(uri) for uri in some.values()] == [True] * 5 + [False] * (len(cards) - 5)
    assert list(some) == [card.path for card in cards]


BY_VALUE = {
    *("photos", "sounds", "prototypes", "zero-shot"),
    *("base", "new", "harmonic", "difference", "same_size", "resampled"),
}
"""Keys that are values of results: kinds of files, baselines, quantities of benchmarks."""


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_text_is_in_both_languages_and_used():
    assert list(LANGUAGES) == ["en", "zh"]
    folder = Path(parts_module.__file__).parent
    sources = [*folder.glob("*.py"), *(folder / "templates").iterdir()]
    used = "".join(path.read_text(encoding="utf-8") for path in sources if path.name != "texts.py")
    for key, texts in TEXTS.items():
        english, chinese = texts
        assert english
        assert fields(english) - {"files"} == fields(chinese) - {"files"}, key
        names = (key, re.sub("^(short|interval_of)_.*", r"\1_", key))  # the last two are put together
        assert any(f'"{name}' in used for name in names) or key in BY_VALUE, key
    same = [key for key, (english, chinese) in TEXTS.items() if english == chinese]
    assert same == ["top1", "top5", "base", "new"]
