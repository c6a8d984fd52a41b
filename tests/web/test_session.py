"""What the page does: zero-shot at once, labels, training, what it gained, and where it takes up again."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from jclip_adapter.cli.app import main
from jclip_adapter.cli.commands.serve import open_session
from jclip_adapter.cli.settings import build_settings
from jclip_adapter.core.calibration import certainty

from .conftest import Browser, Opener, work
from .sample_photos import SAMPLE, zip_names


def labelled(browser: Browser, per_class: int = 4, names: tuple[str, ...] = SAMPLE.names) -> None:
    """Create the classes and label the first photos of each."""
    browser.done("classes", names=", ".join(name.lower() for name in names))
    for name in names:
        browser.done("label", photos=browser.numbers(f"{name}-")[:per_class], to="class", **{"class": name.lower()})


def test_classes_are_predicted_as_soon_as_they_are_typed(browser: Browser) -> None:
    assert browser.json("/api/state")["unlabelled"] == 18
    browser.done("classes", names="bear, butterfly")
    browser.done("classes", names="elephant")
    work(browser.session)
    photos = browser.json("/api/photos", ids=",".join(map(str, range(18))))
    truth = [photo["name"].split("/")[1].split("-")[0].lower() for photo in photos]
    right = [photo["best"][0][0] == name for photo, name in zip(photos, truth, strict=True)]
    assert np.mean(right) > 0.7  # the sample's CLIP knows its drawings
    assert all(sum(share for _, share in photo["best"]) == pytest.approx(1, abs=1e-3) for photo in photos)


def test_least_certain_first(browser: Browser) -> None:
    browser.done("classes", names="bear, butterfly, elephant")
    work(browser.session)
    order = browser.json("/api/order", show="all", sort="uncertain")
    shares = [
        [share for _, share in photo["best"]] for photo in browser.json("/api/photos", ids=",".join(map(str, order)))
    ]
    sure = certainty(np.array(shares))
    assert (np.diff(sure) > -1e-2).all()
    assert sure[0] < sure[-1]
    assert browser.json("/api/order", show="all", sort="name") == list(range(18))


def test_by_class_and_filters(browser: Browser) -> None:
    labelled(browser, 6)
    browser.done("label", photos=[0], to="none")
    work(browser.session)
    order = browser.json("/api/order", show="all", sort="class")
    labels = [photo["label"] for photo in browser.json("/api/photos", ids=",".join(map(str, order)))]
    assert labels[:5] == ["bear"] * 5
    assert labels[-7:] == ["elephant"] * 6 + [""]
    assert browser.json("/api/order", show="none", sort="name") == [0]
    assert len(browser.json("/api/order", show="class:bear", sort="name")) == 5
    assert browser.json("/api/order", show="nonsense", sort="name") == []


def test_training_corrects_and_says_what_it_gained(browser: Browser) -> None:
    labelled(browser)
    browser.done("train", method="tip-adapter")
    work(browser.session)
    state = browser.json("/api/state")
    report = state["report"]
    assert (report["method"], report["shots"], report["classes"], report["held_out"]) == ("tip-adapter", 12, 3, 12)
    assert 0 <= report["interval"][0] <= report["after"] <= report["interval"][1] <= 100
    assert report["before"] > 50
    assert report["run"] == ""
    assert (state["doing"], state["error"]) == ("", "")
    fitted = browser.session.fitted
    assert fitted is not None
    assert sorted(fitted.shots) == sorted(n for name in SAMPLE.names for n in browser.numbers(f"{name}-")[:4])
    browser.done("train", method="tip-adapter")
    work(browser.session)
    assert browser.json("/api/state")["report"]["last"] == report["after"]


def test_the_run_folder_is_one_for_every_command(browser: Browser, capsys: pytest.CaptureFixture[str]) -> None:
    labelled(browser)
    browser.done("train", method="tip-adapter")
    work(browser.session)
    names = zip_names(browser.get("/download/run.zip").content)
    assert {"run/adapter.safetensors", "run/run.json", "run/support.txt", "run/manifest.json"} <= set(names)
    number = browser.numbers("Bear-")[5]
    (shown,) = browser.json("/api/photos", ids=number)
    project = browser.session.project
    run = ["--predict", "--run", str(project.folder / "run"), "--data", str(project.labels_file), "--quiet"]
    assert main([*run, "--images", "photos/Bear-6.jpg"]) == 0
    name, share = shown["best"][0]
    assert f"photos/Bear-6.jpg: {name} {100 * share:.1f} %" in capsys.readouterr().out


def test_a_class_without_photos_is_why_there_is_no_run(browser: Browser) -> None:
    labelled(browser)
    browser.done("classes", names="zebra")
    browser.done("train", method="tip-adapter")
    work(browser.session)
    assert "zebra" in browser.json("/api/state")["report"]["run"]
    answer = browser.get("/download/run.zip")
    assert (answer.status_code, "zebra" in answer.json()["error"]) == (400, True)


def test_most_photos_of_a_class_that_a_training_takes(open_page: Opener) -> None:
    session = open_page(shots=(2,))
    work(session)
    browser = Browser(session)
    labelled(browser, 5)
    browser.done("train", method="tip-adapter")
    work(session)
    assert session.fitted is not None
    assert np.bincount(session.fitted.labels).tolist() == [2, 2, 2]


def test_a_session_takes_up_where_the_last_one_ended(browser: Browser, open_page: Opener) -> None:
    labelled(browser)
    browser.done("train", method="tip-adapter")
    work(browser.session)
    before = browser.json("/api/photos", ids="0,1,2")
    again = open_page()
    assert again.library.waiting == 0  # the features are taken without reading a photo
    work(again)
    assert Browser(again).json("/api/photos", ids="0,1,2") == before


def test_a_changed_photo_is_encoded_again(browser: Browser, open_page: Opener) -> None:
    first = browser.session.library.items[0].path
    first.write_bytes(SAMPLE.further("Elephant"))
    again = open_page()
    assert again.library.waiting == 1
    work(again)
    assert (again.library.raw[0] != browser.session.library.raw[0]).any()


def test_a_photo_that_cannot_be_read_is_shown_as_such(open_page: Opener) -> None:
    Path("photos/broken.jpg").write_bytes(b"no photo")
    session = open_page()
    work(session)
    browser = Browser(session)
    (number,) = browser.json("/api/order", show="unreadable", sort="name")
    (shown,) = browser.json("/api/photos", ids=number)
    assert "broken.jpg" in shown["why"]
    assert browser.get(f"/photo/{number}/small").status_code == 404
    labelled(browser)
    browser.done("label", photos=[number], to="class", **{"class": "bear"})
    browser.done("train", method="tip-adapter")
    work(session)
    assert session.fitted is not None
    assert number not in session.fitted.shots


@pytest.mark.parametrize("method", ["clip-lora", "tip-adaptor", "zero-shot"])
def test_what_cannot_be_trained(browser: Browser, method: str) -> None:
    answer = browser.post("train", {"method": method})
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_an_error_of_a_training_is_shown_and_the_page_goes_on(browser: Browser) -> None:
    browser.done("classes", names="bear")
    browser.done("label", photos=[0, 1], to="class", **{"class": "bear"})
    browser.done("train", method="dac")
    work(browser.session)
    browser.done("classes", names="elephant")
    work(browser.session)
    assert browser.json("/api/state")["doing"] == ""


def test_sorted_photos_and_predictions(browser: Browser) -> None:
    labelled(browser)
    browser.done("label", photos=[0], to="none")
    work(browser.session)
    names = zip_names(browser.get("/download/sorted.zip").content)
    assert len(names) == len(set(names)) == 18
    assert "_none of these/Bear-1.jpg" in names
    assert {"bear/Bear-2.jpg", "butterfly/Butterfly-1.jpg"} <= set(names)
    rows = list(csv.DictReader(io.StringIO(browser.get("/download/predictions.csv").text)))
    assert len(rows) == 18
    assert {row["name_1"] for row in rows} <= {"bear", "butterfly", "elephant"}
    assert browser.get("/download/labels.csv").text.count("\n") == 12
    assert browser.get("/download/result.zip").status_code == 400


def test_photos_of_one_name_do_not_replace_each_other(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "Bear-1.jpg").write_bytes(SAMPLE.further("Bear"))
    browser.done("folder", path=str(tmp_path / "more"))
    work(browser.session)
    assert browser.json("/api/state")["photos"] == 19
    browser.done("classes", names="bear, cat")
    browser.done("label", photos=[0, 18], to="class", **{"class": "bear"})
    work(browser.session)
    names = zip_names(browser.get("/download/sorted.zip").content)
    assert {"bear/Bear-1.jpg", "bear/Bear-1-2.jpg"} <= set(names)


def test_a_network_without_texts_learns_from_the_first_photos(browser: Browser) -> None:
    """As with an ImageNet network: the classes' mean photos stand for the texts."""
    session = browser.session
    session._tasks = session._tasks.__class__(**{**vars_of(session._tasks), "encoder": Blind(session._tasks.encoder)})
    labelled(browser, 2)
    work(session)
    photos = browser.json("/api/photos", ids=",".join(map(str, range(18))))
    truth = [photo["name"].split("/")[1].split("-")[0].lower() for photo in photos]
    assert np.mean([photo["best"][0][0] == name for photo, name in zip(photos, truth, strict=True)]) > 0.7


def vars_of(tasks: object) -> dict[str, object]:
    """The fields of a dataclass, by name."""
    names = [name for name in tasks.__dataclass_fields__ if name != "learnt_texts"]  # type: ignore[attr-defined]
    return {name: getattr(tasks, name) for name in names}


class Blind:
    """An encoder of photos alone."""

    has_text = False

    def __init__(self, encoder: object) -> None:
        self._encoder = encoder

    def __getattr__(self, name: str) -> object:
        return getattr(self._encoder, name)


def test_the_contests_result(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"weights": "tiny.pkl", "method": "tip-adapter"}
    Path("Dataset/TestSetA/image_2.jpg").write_bytes(b"no photo")
    session, project = open_session(build_settings(given, "", ("--serve",)))
    browser = Browser(session)
    assert browser.json("/api/state")["result"]
    assert browser.get("/download/result.zip").status_code == 400  # before anything is classified
    work(session)
    tests = browser.json("/api/order", show="test", sort="name")
    answer = browser.post("label", {"photos": tests[:1], "to": "class", "class": session.project.classes[0]})
    assert "not labelled" in answer.json()["error"]
    browser.done("train", method="tip-adapter")
    work(session)
    assert zip_names(browser.get("/download/result.zip").content) == ["result.txt"]
    result = str(project.folder / "result.txt")
    assert main(["--check", result, "--quiet"]) == 0
    lines = [line.split() for line in Path(result).read_text().splitlines()]
    ids = {info.id: info.name for info in session.images.classes}
    shown = {photo["id"]: photo for photo in browser.json("/api/photos", ids=",".join(map(str, tests)))}
    for number, (name, *best) in zip(tests, lines, strict=True):
        if name != "image_2.jpg":
            assert [ids[int(each)] for each in best] == [name for name, _ in shown[number]["best"]]
    browser.done("classes", names="another class")
    browser.done("train", method="tip-adapter")
    work(session)
    assert "not the contest's" in browser.get("/download/result.zip").json()["error"]
    project.close()
