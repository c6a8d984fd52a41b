"""What a run was made of and is no longer there: its shots, and the CLIPs that it was trained on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from jclip_adapter.storage.folders import write_manifest
from tests.cli.test_pipeline_through_clip import flags
from tests.conftest import Cli
from tests.tiny_contest import WEIGHTS, write_photo

from .test_datasets import FLAGS, both, total

RUN = ("--run", "r", "--data", "D", *FLAGS)


def overlap() -> dict[str, object]:
    report: dict[str, object] = json.loads(Path("r/evaluation.json").read_text())["overlap"]
    return report


def first_shot() -> Path:
    return Path("D", Path("r/support.txt").read_text().splitlines()[0].rpartition(" ")[0])


def replace(shot: Path) -> None:
    write_photo(shot, 99, 0)


def remove(shot: Path) -> None:
    shot.unlink()


def swap(shot: Path) -> None:
    """The file is another shot's photo by now."""
    other = Path("D", Path("r/support.txt").read_text().splitlines()[-1].rpartition(" ")[0])
    shot.write_bytes(other.read_bytes())


@pytest.mark.parametrize("kind", ["folders", "csv"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (replace, "have changed since"),
        (remove, "are not in this data or can no longer be read"),
        (swap, "have changed"),
    ],
)
def test_a_copy_of_what_was_learnt_is_found_though_the_shot_is_gone(
    workplace: Path, cli: Cli, kind: str, change: Callable[[Path], None], said: str
) -> None:
    """A10: the shots were compared as they lie there now, so that the copy was scored without a word."""
    both(workplace / "D")
    if kind == "csv":
        (workplace / "D/test/cat/copy.jpg").write_bytes(b"later")
        rows = [
            f"{path.relative_to(workplace / 'D')},{path.parent.name},{path.parent.parent.name}\n"
            for path in sorted((workplace / "D").rglob("*.jpg"))
        ]
        (workplace / "D/photos.csv").write_text("path,label,split\n" + "".join(rows))
    assert cli("--train", *RUN).status == 0
    shot = first_shot()
    learnt = shot.read_bytes()
    change(shot)
    (workplace / "D/test/cat/copy.jpg").write_bytes(learnt)
    outcome = cli("--evaluate", *RUN)
    assert total(outcome) == "100.0 %"
    assert f"1 of 12 shots {said}" in outcome.out
    name = "test/cat/copy.jpg" if kind == "csv" else "cat/copy.jpg"
    assert f"1 of 10 scored photos are byte-identical to shots: {name} = {shot.relative_to('D')}" in outcome.out
    assert "top-1 without byte-identical photos (9 photos)" in outcome.out
    assert (overlap()["identical"], len(overlap()["stale_shots"])) == (1, 1)  # type: ignore[arg-type]
    predicted = cli("--predict", "p.txt", *RUN)
    assert predicted.status == 0
    assert "1 of 10 scored photos are byte-identical to shots" in predicted.err
    assert f"1 of 12 shots {said}" in predicted.err


def test_the_rest_of_the_training_photos_is_scored_without_a_shot_that_was_renamed(workplace: Path, cli: Cli) -> None:
    """A10, relative: under its new name a shot is a photo that no list names."""
    both(workplace / "D/train")
    shutil.move(workplace / "D/train/train", workplace / "D/photos")
    shutil.rmtree(workplace / "D/train")
    assert cli("--train", *RUN).status == 0
    shot = first_shot()
    shot.rename(shot.with_name("renamed.jpg"))
    outcome = cli("--evaluate", *RUN)
    assert outcome.status == 0
    assert "1 of 7 scored photos are byte-identical to shots" in outcome.out
    assert "renamed.jpg" in outcome.out


def test_unchanged_shots_are_no_news(workplace: Path, cli: Cli) -> None:
    """A10, the other side; the list is in the form of sha256sum."""
    both(workplace / "D")
    assert cli("--train", *RUN).status == 0
    lines = Path("r/support.sha256").read_text().splitlines()
    assert [line[66:] for line in lines] == [
        line.rpartition(" ")[0] for line in Path("r/support.txt").read_text().splitlines()
    ]
    outcome = cli("--evaluate", *RUN)
    assert "shots cannot" not in outcome.out + outcome.err
    assert "shots have" not in outcome.out + outcome.err
    assert overlap()["stale_shots"] == []


@pytest.mark.parametrize("gone", [False, True])
def test_a_run_of_an_older_version_is_evaluated_as_ever(workplace: Path, cli: Cli, gone: bool) -> None:
    """A10, relative: it kept no checksums; a shot that is gone did not let it be evaluated."""
    both(workplace / "D")
    assert cli("--train", *RUN).status == 0
    Path("r/support.sha256").unlink()
    write_manifest("r", ["adapter.safetensors", "support.txt", "run.json", "metrics.json"])
    shot = first_shot()
    (workplace / "D/test/cat/copy.jpg").write_bytes(shot.read_bytes())
    if gone:
        shot.unlink()
    outcome = cli("--evaluate", *RUN)
    assert total(outcome) == "100.0 %"
    assert ("1 of 10 scored photos are byte-identical" in outcome.out) == (not gone)
    assert ("1 of 12 shots are not in this data or can no longer be read" in outcome.out) == gone


@pytest.mark.parametrize("network", ["tiny.pkl", "efficientnet-lite0"])
@pytest.mark.parametrize("change", [remove, replace])
def test_a_shot_that_is_gone_or_changed_does_not_stop_the_contest(
    workplace: Path, cli: Cli, network: str, change: Callable[[Path], None]
) -> None:
    """A10, relative: "Take it out of the list" led to "support.txt is missing or damaged"; prototypes do without it."""
    flags = ("--weights", network, "--method", "linear-probe", "--run", "r")
    assert cli("--train", "--predict", "before.txt", *flags).status == 0
    change(Path("Dataset", Path("r/support.txt").read_text().splitlines()[0].rpartition(" ")[0]))
    evaluated = cli("--evaluate", *flags)
    assert evaluated.status == 0, evaluated.err
    assert "1 of 24 shots " in evaluated.out
    predicted = cli("--predict", "after.txt", *flags)
    assert predicted.status == 0, predicted.err
    assert Path("before.txt").read_bytes() == Path("after.txt").read_bytes(), "what was learnt is in the run"


@pytest.fixture
def chain(workplace: Path, cli: Cli) -> Path:
    """A run on a run on a run: lora, lora2 with --encoder lora, gd with --encoder lora2."""
    assert cli("--train", *flags("clip-lora", "lora")).status == 0
    assert cli("--train", *flags("clip-lora", "lora2"), "--encoder", "lora").status == 0
    assert cli("--train", "--method", "gda", *WEIGHTS, "--run", "gd", "--encoder", "lora2").status == 0
    return workplace


ON_THE_CHAIN = (
    ("--evaluate", "--method", "gda", "--run", "gd"),
    ("--predict", "p.txt", "--method", "gda", "--run", "gd"),
    ("--predict", "--images", "Dataset/TestSetA/image_1.jpg", "--method", "gda", "--run", "gd"),
    ("--extract", "f.npz", "--encoder", "lora2"),
    ("--train", "--method", "gda", "--run", "new", "--encoder", "lora2"),
    ("--benchmark", "--method", "gda", "--encoder", "lora2", "--shots", "1"),
    ("--predict", "p.txt", "--method", "zero-shot", "--encoder", "lora2"),
)


def test_a_chain_of_encoders_is_refused_once_a_link_was_trained_again(chain: Path, cli: Cli) -> None:
    """E, relative of the run folders: lora2 was run on another lora than it was trained on, features 25 % off."""
    for command in ON_THE_CHAIN:
        outcome = cli(*command, *WEIGHTS)
        assert outcome.status == 0, (command, outcome.err)
    assert cli("--train", *flags("clip-lora", "lora"), "--seed", "5").status == 0
    for command in ON_THE_CHAIN:
        outcome = cli(*command, *WEIGHTS)
        assert outcome.status == 2, command
        assert "lora2 was trained on another CLIP than that of lora. Train lora2 again" in outcome.err
    assert cli("--train", *flags("clip-lora", "lora2"), "--encoder", "lora").status == 0
    outcome = cli(*ON_THE_CHAIN[0], *WEIGHTS)
    assert outcome.status == 2
    assert "gd was trained on another CLIP than that of lora2. Train gd again" in outcome.err
    assert cli("--train", "--method", "gda", *WEIGHTS, "--run", "gd", "--encoder", "lora2").status == 0
    assert cli(*ON_THE_CHAIN[0], *WEIGHTS).status == 0


def test_a_chain_of_encoders_in_a_circle_is_refused(chain: Path, cli: Cli) -> None:
    """Its relative: lora trained on lora2, which stands on lora."""
    assert cli("--train", *flags("clip-lora", "lora"), "--encoder", "lora2").status == 0
    outcome = cli(*ON_THE_CHAIN[0], *WEIGHTS)
    assert outcome.status == 2
    assert "the runs behind --encoder form a cycle" in outcome.err


def test_the_digest_of_a_chain_covers_all_of_it(chain: Path, cli: Cli) -> None:
    """Cells of the benchmark, checkpoints and runs are keyed by it; an older run kept that of the first link alone."""
    facts = {name: json.loads(Path(name, "run.json").read_text()) for name in ("lora", "lora2", "gd")}
    adapters = {
        name: json.loads(Path(name, "manifest.json").read_text())["files"]["adapter.safetensors"]["sha256"]
        for name in facts
    }
    assert facts["lora"]["encoder_sha256"] == ""
    assert facts["lora2"]["encoder_sha256"] == adapters["lora"]
    assert facts["gd"]["encoder_sha256"] not in ("", *adapters.values())
    facts["gd"]["encoder_sha256"] = adapters["lora2"]
    Path("gd/run.json").write_text(json.dumps(facts["gd"]))
    listed = json.loads(Path("gd/manifest.json").read_text())["files"]
    write_manifest("gd", list(listed))
    assert cli(*ON_THE_CHAIN[0], *WEIGHTS).status == 0
    facts["gd"]["encoder_sha256"] = adapters["lora"]
    Path("gd/run.json").write_text(json.dumps(facts["gd"]))
    write_manifest("gd", list(listed))
    assert cli(*ON_THE_CHAIN[0], *WEIGHTS).status == 2
