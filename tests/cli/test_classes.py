"""Zero-shot by names that the user types, without training data."""

from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.tiny_contest import WEIGHTS

ASK = ("--predict", *WEIGHTS, "--images", "Dataset/TestSetA")


def test_photos_are_named_without_any_training_data(workplace: Path, cli: Cli) -> None:
    """The same words as classes of a data set give the same order of classes."""
    typed = cli(*ASK, "--classes", "cat, bear, apple pie")
    assert typed.status == 0, typed.err
    for name in ("cat", "bear", "apple pie"):
        Path("named", name).mkdir(parents=True)
        Path("named", name, "1.png").write_bytes(Path("Dataset/TestSetA/image_1.jpg").read_bytes())
    of_folders = cli(*ASK, "--data", "named", "--method", "zero-shot", "--shots", 0)
    assert of_folders.status == 0, of_folders.err

    def order(text: str) -> list[list[str]]:
        return [[part.rsplit(" ", 2)[0] for part in line.split(": ")[1].split(", ")] for line in text.splitlines()]

    assert order(typed.out) == order(of_folders.out)
    assert len(order(typed.out)[0]) == 3
    assert not Path("results/runs").exists()


def test_a_run_on_the_usual_data_is_not_used(trained: Path, cli: Cli) -> None:
    """The run in this folder has six other classes."""
    assert cli(*ASK, "--classes", "cat, dog").out.count("cat ") == len(list(Path("Dataset/TestSetA").iterdir()))


def test_names_of_a_file_go_into_a_table(workplace: Path, cli: Cli) -> None:
    Path("names.txt").write_text("a dog, brown\ncat\n")
    assert cli("--predict", "found.csv", *ASK[1:], "--classes", "names.txt").status == 0
    assert '"a dog, brown"' in Path("found.csv").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data", "Dataset"), "--data has no effect with --classes"),
        (("--shots", 2), "--shots has no effect on zero-shot"),
        (("--reject", 0.05), "--reject has no effect with --classes"),
        (("--run", "run"), "--run has no effect with --classes"),
        (("--method", "auto"), "auto needs training photos"),
        (("--top", 3), "--top 3: --classes has 2 classes. Give 2 or less."),
    ],
)
def test_options_about_training_are_refused(
    options: tuple[object, ...], message: str, workplace: Path, cli: Cli
) -> None:
    outcome = cli(*ASK, "--classes", "cat, dog", *options)
    assert (outcome.status, outcome.out) == (2, "")
    assert message in outcome.err


def test_a_name_without_meaning_is_named_without_a_folder_that_is_not_there(workplace: Path, cli: Cli) -> None:
    said = cli(*ASK, "--classes", "cat, 12")
    assert said.status == 0
    assert (
        "1 of 2 class names have no meaning for CLIP: '12'; write other names, or give --class-names FILE" in said.err
    )


def test_names_are_for_photos_elsewhere_alone(workplace: Path, cli: Cli) -> None:
    outcome = cli("--predict", "result.txt", *WEIGHTS, "--classes", "cat, dog")
    assert outcome.status == 2
    assert "--classes" in outcome.err
