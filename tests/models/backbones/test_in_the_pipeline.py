"""An ImageNet network in CLIP's place, and beside it, through the commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jclip_adapter.cli.commands import setup
from jclip_adapter.cli.runs import RUN
from jclip_adapter.features.file import read_feature_file
from jclip_adapter.features.task_encoder import TaskEncoder
from jclip_adapter.storage import sha256_file
from tests.conftest import Cli, no_photos
from tests.random_weights import write_safe

ALONE = ("--weights", "efficientnet-lite0")
BESIDE = ("--weights", "tiny.pkl", "--auxiliary", "efficientnet-lite0")


@pytest.mark.parametrize("method", ["linear-probe", "tip-adapter", "jclip-adapter"])
def test_photos_alone(method: str, workplace: Path, cli: Cli) -> None:
    flags = (*ALONE, "--method", method)
    trained = cli("--train", *flags)
    assert trained.status == 0, trained.err
    assert "top-1 on the shots themselves: prototypes" in trained.out
    told = cli("--evaluate", *flags)
    assert told.status == 0, told.err
    assert "| prototypes |" in told.out
    assert cli("--predict", "result.txt", *flags).status == 0
    assert cli("--check", "result.txt").status == 0
    (folder,) = Path("results/runs").iterdir()
    facts = json.loads((folder / RUN).read_text())
    assert 4.6e6 < facts["parameters"] == facts["weights_parameters"] < 4.7e6


def test_a_broken_photo_gets_what_the_prototypes_expect(workplace: Path, cli: Cli) -> None:
    flags = (*ALONE, "--method", "linear-probe")
    (workplace / "Dataset/TestSetA/image_3.jpg").write_bytes(b"no photo")
    assert cli("--train", "--predict", "result.txt", *flags).status == 0
    assert len(set(Path("result.txt").read_text().splitlines()[2].split()[1:])) == 5
    assert "image_3.jpg" in Path("result.rejects.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--predict", *ALONE, "--method", "zero-shot"), "zero-shot needs texts"),
        (("--predict", *ALONE, "--method", "em-dirichlet"), "em-dirichlet needs texts"),
        (("--train", *ALONE, "--method", "coop"), "coop trains through CLIP"),
        (("--train", *ALONE, "--method", "two-views"), "needs a second network's features"),
        (("--train", *ALONE, "--auxiliary", "efficientnet-lite2", "--method", "two-views"), "needs CLIP weights"),
        (("--train", *ALONE, "--precision", "bfloat16"), "supports only float32"),
        (("--extract", "x.npz", *ALONE), "no text encoder"),
        (
            ("--train", "--weights", "tiny.pkl", "--auxiliary", "resnet", "--method", "two-views"),
            "'resnet' is neither a weight file, a folder with one, nor a known name",
        ),
        (
            ("--predict", "--weights", "tiny.pkl", "--method", "zero-shot", "--set", "names=1"),
            "needs an ImageNet network",
        ),
    ],
)
def test_what_needs_text_says_so(arguments: tuple[str, ...], words: str, workplace: Path, cli: Cli) -> None:
    done = cli(*arguments)
    assert done.status == 2
    assert words in done.err
    assert len([line for line in done.err.splitlines() if line.startswith("error")]) == 1


@pytest.mark.parametrize(
    "asked",
    [("--images", "Dataset/TestSetA", "--classes", "cat, dog"), ("--method", "zero-shot")],
)
def test_a_network_that_does_not_suit_the_method_is_refused_before_photos_are_encoded(
    asked: tuple[str, ...], workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TaskEncoder, "photos", no_photos)
    done = cli("--predict", *ALONE, *asked)
    assert done.status == 2, done.err
    assert "zero-shot needs texts, but this network has no text encoder. Give --weights a CLIP." in done.err


@pytest.mark.parametrize("method", ["two-views", "amu-tuning"])
def test_beside_clip(method: str, workplace: Path, cli: Cli) -> None:
    flags = (*BESIDE, "--method", method)
    done = cli("--train", "--evaluate", "--predict", "result.txt", *flags)
    assert done.status == 0, done.err
    assert cli("--check", "result.txt").status == 0
    (folder,) = Path("results/runs").iterdir()
    assert folder.name.endswith("with-efficientnet-lite0")
    facts = json.loads((folder / RUN).read_text())
    assert facts["parameters"] > facts["weights_parameters"] + 4.6e6
    again = cli("--predict", "again.txt", "--run", folder, *BESIDE[:2])  # the run knows what stood beside CLIP
    assert again.status == 0, again.err
    assert Path("again.txt").read_bytes() == Path("result.txt").read_bytes()


@pytest.mark.parametrize("method", ["two-views", "amu-tuning"])
def test_a_second_clip_beside_clip(method: str, workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    second = write_safe(workplace / "second.safetensors", seed=1)
    flags = ("--weights", "tiny.pkl", "--auxiliary", second.name, "--method", method)
    monkeypatch.setattr(setup, "MOST_PARAMETERS", 4_000_000)  # less than both, more than either
    done = cli("--train", "--evaluate", "--predict", "result.txt", *flags)
    assert done.status == 0, done.err
    assert "over the contest's limit of 4 million" in done.err
    (folder,) = Path("results/runs").iterdir()
    assert folder.name.endswith("with-second.safetensors")
    facts = json.loads((folder / RUN).read_text())
    assert facts["weights_parameters"] < 4_000_000 < facts["parameters"] == 2 * facts["weights_parameters"]
    assert facts["auxiliary_sha256"] == sha256_file(second)
    assert facts["auxiliary_model"] == facts["model"]
    again = cli("--predict", "again.txt", "--run", folder)
    assert again.status == 0, again.err
    assert Path("again.txt").read_bytes() == Path("result.txt").read_bytes()
    second.unlink()
    write_safe(second, seed=2)
    changed = cli("--predict", "again.txt", "--run", folder)
    assert changed.status == 2
    assert "was trained with another second network than second.safetensors" in changed.err


def test_names_count_without_any_shot(workplace: Path, cli: Cli) -> None:
    plain = cli("--predict", "plain.txt", "--weights", "tiny.pkl", "--method", "zero-shot")
    named = cli("--predict", "named.txt", *BESIDE, "--method", "zero-shot", "--set", "names=50")
    alone = cli("--predict", "alone.txt", *ALONE, "--method", "zero-shot", "--set", "names=1")
    assert (plain.status, named.status, alone.status) == (0, 0, 0), named.err + alone.err
    texts = [Path(f"{name}.txt").read_text() for name in ("plain", "named", "alone")]
    assert len(set(texts)) >= 2


def test_a_feature_file_holds_both(workplace: Path, cli: Cli) -> None:
    assert cli("--extract", "both.npz", "--shots", "1,2", *BESIDE).status == 0
    content = read_feature_file("both.npz")
    assert content.tasks[2].auxiliary is not None
    assert content.tasks[2].auxiliary.shape == (12, 1280)
    assert content.test.queries.auxiliary is not None
    assert len(content.test.queries.auxiliary) == len(content.test.labels)
    done = cli("--benchmark", "--features", "both.npz", "--method", "two-views,zero-shot", "--select", "none")
    assert done.status == 0, done.err
    assert "two-views" in done.out


def test_a_benchmark_leaves_out_what_needs_text(workplace: Path, cli: Cli) -> None:
    done = cli("--benchmark", *ALONE, "--method", "all", "--select", "none", "--shots", "2")
    assert done.status == 0, done.err
    names = {line.split(",")[1] for line in Path("results/table.csv").read_text().splitlines()}
    assert {"linear-probe", "tip-adapter", "gda", "transclip", "em-dirichlet"} <= names
    assert not {"zero-shot", "two-views", "coop"} & names


def test_too_many_parameters_are_warned_of(workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    named = ("--method", "zero-shot", "--set", "names=1")
    assert "parameters" not in cli("--predict", *BESIDE, *named, "--quiet").err
    monkeypatch.setattr(setup, "MOST_PARAMETERS", 4_000_000)
    assert "over the contest's limit of 4 million" in cli("--predict", *BESIDE, *named).err
