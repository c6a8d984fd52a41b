"""The project: changes, undo, labels.csv, and what a kill or a damaged log leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.data.sets import load_dataset
from jclip_adapter.web.project import LOG, Project
from tests.tiny_contest import write_photo

BASE = {"data/1.jpg": "cat"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(1, 5):
        write_photo(folder / f"{number}.jpg", number)
    return folder


def opened(data: Path) -> Project:
    return Project(data.parent / "project", data, ("cat",), BASE)


def test_changes_are_there_after_a_restart(data: Path) -> None:
    project = opened(data)
    project.add_classes(["dog", "red  toy car "])
    project.assign(["data/1.jpg", "data/2.jpg"], "dog")
    project.none_of_these(["data/3.jpg"])
    project.assign(["data/4.jpg"], "cat")
    project.clear(["data/4.jpg"])
    project.note_training("auto")
    labels = {"data/1.jpg": "dog", "data/2.jpg": "dog", "data/3.jpg": ""}
    assert (project.labels, project.classes) == (labels, ("cat", "dog", "red toy car"))
    project.close()
    again = opened(data)
    assert (again.labels, again.classes, again.trained) == (labels, ("cat", "dog", "red toy car"), "auto")
    assert again.last == "1 photo without label"


def test_undo_goes_back_to_the_data_sets_labels(data: Path) -> None:
    project = opened(data)
    project.add_classes(["dog"])
    project.assign(["data/1.jpg"], "dog")
    project.remove_class("dog")
    assert (project.labels, project.classes) == ({}, ("cat",))
    assert project.undo() == "removed: dog"
    assert project.labels == {"data/1.jpg": "dog"}
    project.close()
    again = opened(data)
    assert again.labels == {"data/1.jpg": "dog"}
    again.undo()
    assert again.labels == BASE
    again.undo()
    assert again.classes == ("cat",)
    with pytest.raises(UsageError, match="nothing to undo"):
        again.undo()


def test_labels_are_a_data_set_for_every_command(data: Path) -> None:
    project = opened(data)
    project.add_classes(["dog"])
    project.assign(["data/2.jpg"], "dog")
    project.none_of_these(["data/3.jpg"])
    images = load_dataset(project.labels_file, follow_links=True)
    assert images.class_names == ("cat", "dog")
    assert [(photo.relative, photo.label) for photo in images.train] == [("data/1.jpg", 0), ("data/2.jpg", 1)]
    assert all(photo.path.is_file() for photo in images.train)


def test_a_photo_that_is_gone_leaves_the_table(data: Path) -> None:
    project = opened(data)
    project.assign(["data/2.jpg", "data/3.jpg"], "cat")
    project.close()
    (data / "2.jpg").unlink()
    again = opened(data)
    assert "data/2.jpg" not in again.labels_file.read_text()
    assert "data/3.jpg" in again.labels_file.read_text()


def test_the_users_photos_are_not_touched(data: Path) -> None:
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    project = opened(data)
    project.assign(["data/2.jpg"], "cat")
    project.remove_class("cat")
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before


@pytest.mark.parametrize(
    "name", ["", "  ", "a/b", "..", "a\\b", ".hidden", "x" * 101, "a\0b", "a\x07b", "CAT", "cat", "c:d"]
)
def test_names_that_are_refused(data: Path, name: str) -> None:
    project = opened(data)
    with pytest.raises(UsageError):
        project.add_classes(["dog", name])
    assert project.classes == ("cat",)
    assert not (data.parent / "project" / LOG).read_text()


def test_an_unknown_class_is_refused(data: Path) -> None:
    project = opened(data)
    for act in (lambda: project.assign(["data/1.jpg"], "dog"), lambda: project.remove_class("dog")):
        with pytest.raises(UsageError, match="no class 'dog'"):
            act()


@given(st.data())
def test_a_kill_between_any_two_bytes_loses_only_what_was_not_acknowledged(
    tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("kill")
    (folder / "photos").mkdir()
    project = Project(folder / "project", folder / "photos")
    states = [(project.classes, dict(project.labels))]
    project.add_classes(["a", "b"])
    states.append((project.classes, dict(project.labels)))
    for name in ("a", "b"):
        project.assign(["data/1.jpg", f"data/{name}.jpg"], name)
        states.append((project.classes, dict(project.labels)))
    project.undo()
    states.append((project.classes, dict(project.labels)))
    project.close()
    log = folder / "project" / LOG
    whole = log.read_bytes()
    left = whole[: draw.draw(st.integers(0, len(whole)))]
    log.write_bytes(left)
    again = Project(folder / "project", folder / "photos")
    assert (again.classes, again.labels) == states[left.count(b"\n")]
    again.close()


def test_a_kill_between_the_two_files_of_labels_is_no_obstacle(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The facts are renamed first: killed then, the table is still the older one."""
    project = opened(data)
    rename, calls = Path.replace, []

    def killed(path: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        project.assign(["data/2.jpg"], "cat")
    monkeypatch.undo()
    project.close()
    again = opened(data)
    assert again.labels == {**BASE, "data/2.jpg": "cat"}
    assert "data/2.jpg,cat" in again.labels_file.read_text()


def test_a_table_that_the_user_changed_is_not_replaced(data: Path) -> None:
    project = opened(data)
    project.labels_file.write_text("path,label\ndata/4.jpg,dog\n")
    project.close()
    with pytest.raises(UsageError, match="not replaced"):
        opened(data)


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"do": "nothing"}', '{"do": "assign", "class": 3, "photos": []}', '{"do": "undo"}', "[" * 9999]
)
def test_a_damaged_log_is_refused_by_its_line(data: Path, line: str) -> None:
    project = opened(data)
    project.add_classes(["dog"])
    project.undo()
    project.close()
    with (data.parent / "project" / LOG).open("a") as log:
        log.write(f"{line}\n")
    with pytest.raises(DataError, match="damaged in line 3"):
        opened(data)


def test_a_project_of_other_data_is_refused(data: Path, tmp_path: Path) -> None:
    opened(data).close()
    (tmp_path / "other").mkdir()
    with pytest.raises(UsageError, match="belongs to"):
        Project(tmp_path / "project", tmp_path / "other")
    opened(data)  # and the refused one holds no lock


def test_a_folder_beside_is_linked_and_remembered(data: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    project = opened(data)
    place = project.add_folder(tmp_path / "more")
    assert place.resolve() == tmp_path / "more"
    assert project.add_folder(tmp_path / "more") == place
    project.close()
    assert opened(data).folders == [tmp_path / "more"]
