"""CLIPs of the Hugging Face hub by name, against a local server that speaks the hub's protocol."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jclip_adapter.core.errors import UsageError, WeightsError
from jclip_adapter.models.weights import resolve
from jclip_adapter.models.weights.hub import check_cached, parse, pinned, revision_of
from jclip_adapter.models.weights.published import canonical, published_models
from tests import ROOT
from tests.conftest import Cli
from tests.fake_hub import TOKEN, FakeHub, Model, commit_of, fake_hub
from tests.random_weights import write_safe

REPOSITORY = "org/tiny-clip"
NAME = f"hf:{REPOSITORY}"
WEIGHTS = bytes(range(256)) * 100_000  # the hub's package keeps blocks of 10 MB
BLOCK = 10 << 20
FIRST, SECOND = commit_of("first"), commit_of("second")
FILES = {"open_clip_config.json": b"{}", "README.md.txt": b"read me", "open_clip_model.safetensors": WEIGHTS}
CODE = """
import sys
from jclip_adapter.core.errors import AdapterError
from jclip_adapter.models.weights import confined, resolve
try:
    path = resolve(sys.argv[1])
    confined._look(path)
    print(path)
except AdapterError as error:
    sys.exit(f"error: {error}")
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A hub with one model: main is the second of two commits, v1 a tag of the first."""
    with fake_hub() as found:
        old = {**FILES, "open_clip_model.safetensors": WEIGHTS[:1000]}
        found.models[REPOSITORY] = Model({FIRST: old, SECOND: FILES}, {"main": SECOND, "v1": FIRST})
        yield found


def ask(hub: FakeHub, home: Path, name: str = NAME, **environment: str) -> subprocess.CompletedProcess[str]:
    """Resolve a name in a process of its own, as the hub's package reads its variables when it is imported."""
    variables = {
        **{key: value for key, value in os.environ.items() if not key.startswith("HF_")},
        **{"HF_HOME": str(home / "hf"), "HF_ENDPOINT": hub.address, "JCLIP_WEIGHTS_DIR": str(home / "weights")},
        **{"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "PYTHONDONTWRITEBYTECODE": "1", **environment},
    }
    command = [sys.executable, "-c", CODE, name]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False, cwd=home, timeout=120)


def blob(home: Path, content: bytes = WEIGHTS) -> Path:
    """The file of the hub's cache with this content."""
    folder = home / "hf" / "hub" / "models--org--tiny-clip" / "blobs"
    return folder / hashlib.sha256(content).hexdigest()


def test_a_whole_download_and_nothing_twice(hub: FakeHub, tmp_path: Path) -> None:
    done = ask(hub, tmp_path)
    path = Path(done.stdout.strip())
    assert path.read_bytes() == WEIGHTS
    assert (path.name, revision_of(path)) == ("open_clip_model.safetensors", SECOND)
    assert (path.parent / "open_clip_config.json").read_bytes() == b"{}"
    assert not (path.parent / "README.md.txt").exists()
    assert len(hub.requests("Signature")) == 1  # of the redirect's address
    assert ask(hub, tmp_path).stdout == done.stdout
    assert len(hub.requests("Signature")) == 1


def test_messages_are_ours_and_no_address_is_shown(hub: FakeHub, tmp_path: Path) -> None:
    done = ask(hub, tmp_path, HF_TOKEN=TOKEN)
    assert done.returncode == 0
    for secret in (TOKEN, "Signature", "HTTP Request", "unauthenticated"):
        assert secret not in done.stdout + done.stderr


def test_a_slow_download_shows_its_progress(hub: FakeHub, tmp_path: Path) -> None:
    hub.pause = 1.2
    (line,) = ask(hub, tmp_path).stderr.strip().splitlines()
    assert line.startswith("downloading open_clip_model.safetensors: 25.6MB, ")


def test_the_token_does_not_follow_a_redirect_to_another_host(hub: FakeHub, tmp_path: Path) -> None:
    assert ask(hub, tmp_path, HF_TOKEN=TOKEN).returncode == 0
    assert {seen.authorization for seen in hub.requests("/resolve/")} == {f"Bearer {TOKEN}"}
    assert {seen.authorization for seen in hub.requests("Signature")} == {""}


def test_a_broken_connection_is_resumed(hub: FakeHub, tmp_path: Path) -> None:
    hub.break_after = [BLOCK + 300_000]
    assert Path(ask(hub, tmp_path).stdout.strip()).read_bytes() == WEIGHTS
    assert [seen.range for seen in hub.requests("Signature")] == ["", f"bytes={BLOCK}-"]


def test_a_download_that_was_ended_is_resumed_by_the_next_command(hub: FakeHub, tmp_path: Path) -> None:
    hub.break_after = [BLOCK + 400_000, *[0] * 4]
    done = ask(hub, tmp_path)
    assert done.returncode == 1
    assert f"cannot download {hub.address}/{REPOSITORY}: " in done.stderr
    hub.seen.clear()
    assert Path(ask(hub, tmp_path).stdout.strip()).read_bytes() == WEIGHTS
    assert [seen.range for seen in hub.requests("Signature")] == [f"bytes={BLOCK}-"]


def test_other_bytes_than_the_hub_announced_are_refused(hub: FakeHub, tmp_path: Path) -> None:
    hub.damaged = True
    done = ask(hub, tmp_path)
    assert done.returncode == 1
    assert f"the hub's is {hashlib.sha256(WEIGHTS).hexdigest()}" in done.stderr
    assert f"Remove {blob(tmp_path)} to download it again." in done.stderr
    hub.damaged = False
    blob(tmp_path).unlink()
    assert ask(hub, tmp_path).returncode == 0


@pytest.mark.parametrize(("name", "commit"), [(f"{NAME}@v1", FIRST), (f"{NAME}@{FIRST}", FIRST), (NAME, SECOND)])
def test_a_revision(hub: FakeHub, tmp_path: Path, name: str, commit: str) -> None:
    path = Path(ask(hub, tmp_path, name).stdout.strip())
    assert revision_of(path) == commit
    assert path.read_bytes() == hub.models[REPOSITORY].commits[commit]["open_clip_model.safetensors"]


def test_a_commit_in_the_cache_needs_no_connection(hub: FakeHub, tmp_path: Path) -> None:
    first = ask(hub, tmp_path, f"{NAME}@{FIRST}")
    hub.seen.clear()
    assert ask(hub, tmp_path, f"{NAME}@{FIRST}").stdout == first.stdout
    assert hub.seen == []


def test_what_another_program_cached_is_completed(hub: FakeHub, tmp_path: Path) -> None:
    files = {**FILES, "pytorch_model.bin": b"pickle"}
    hub.models[REPOSITORY].commits[FIRST] = {"pytorch_model.bin": b"pickle"}
    assert Path(ask(hub, tmp_path, f"{NAME}@{FIRST}").stdout.strip()).name == "pytorch_model.bin"
    hub.models[REPOSITORY].commits[FIRST] = files
    path = Path(ask(hub, tmp_path, f"{NAME}@{FIRST}").stdout.strip())
    assert path.name == "open_clip_model.safetensors"
    (path.parent / "open_clip_config.json").unlink()
    assert ask(hub, tmp_path, f"{NAME}@{FIRST}").stdout.strip() == str(path)
    assert (path.parent / "open_clip_config.json").is_file()


@pytest.mark.parametrize("how", ["switch", "no server"])
def test_offline_the_cache_is_used_and_said(hub: FakeHub, tmp_path: Path, how: str) -> None:
    online = ask(hub, tmp_path)
    variables = {"HF_HUB_OFFLINE": "1"} if how == "switch" else {"HF_ENDPOINT": "http://127.0.0.1:9"}
    hub.seen.clear()
    done = ask(hub, tmp_path, **variables)
    assert done.stdout == online.stdout
    assert f"using {SECOND}, downloaded before" in done.stderr
    assert hub.seen == []


@pytest.mark.parametrize("how", ["switch", "no server"])
def test_offline_without_files_one_line_says_which_to_put_where(hub: FakeHub, tmp_path: Path, how: str) -> None:
    variables = {"HF_HUB_OFFLINE": "1"} if how == "switch" else {"HF_ENDPOINT": "http://127.0.0.1:9"}
    done = ask(hub, tmp_path, **variables)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "cannot download http://127.0.0.1:" in line
    assert "open_clip_config.json" in line
    assert ".safetensors" in line
    folder = tmp_path / "weights" / "tiny-clip"
    assert f"into {folder}." in line
    folder.mkdir(parents=True)
    (folder / "open_clip_model.safetensors").write_bytes(WEIGHTS)
    assert ask(hub, tmp_path, **variables).stdout.strip() == str(folder / "open_clip_model.safetensors")


def test_a_users_folder_is_of_the_revision_in_its_name(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "weights" / "tiny-clip"
    folder.mkdir(parents=True)
    (folder / "open_clip_model.safetensors").write_bytes(b"mine")
    assert Path(ask(hub, tmp_path).stdout.strip()).read_bytes() == b"mine"
    assert Path(ask(hub, tmp_path, f"{NAME}@v1").stdout.strip()).read_bytes() == WEIGHTS[:1000]
    folder.rename(folder.with_name("tiny-clip@v1"))
    assert Path(ask(hub, tmp_path, f"{NAME}@v1").stdout.strip()).read_bytes() == b"mine"


def test_a_gated_model(hub: FakeHub, tmp_path: Path) -> None:
    hub.models[REPOSITORY].gated = True
    done = ask(hub, tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert f"Accept them at {hub.address}/{REPOSITORY}" in line
    assert "HF_TOKEN" in line
    assert ask(hub, tmp_path, HF_TOKEN=TOKEN).returncode == 0


def test_an_unknown_repository_and_revision(hub: FakeHub, tmp_path: Path) -> None:
    done = ask(hub, tmp_path, "hf:laion/CLIP-ViT-B-32-laion2B-s34B-b79k")
    assert done.returncode == 1
    assert f"{hub.address}/laion/CLIP-ViT-B-32-laion2B-s34B-b79k does not exist, or is private." in done.stderr
    assert "Did you mean 'laion/CLIP-ViT-B-32-laion2B-s34B-b79K'?" in done.stderr
    done = ask(hub, tmp_path, f"{NAME}@v2")
    assert "has no revision 'v2'" in done.stderr


def test_a_pickle_is_not_downloaded_where_there_are_safetensors(hub: FakeHub, tmp_path: Path) -> None:
    files = hub.models[REPOSITORY].commits[SECOND]
    both = {"open_clip_pytorch_model.bin": b"pickle", "pytorch_model.bin": b"another", "model.safetensors": WEIGHTS}
    hub.models[REPOSITORY].commits[SECOND] = {"config.json": b"{}", **both}
    path = Path(ask(hub, tmp_path).stdout.strip())
    assert path.name == "model.safetensors"
    assert sorted(each.name for each in path.parent.iterdir()) == ["config.json", "model.safetensors"]
    hub.models[REPOSITORY].commits[SECOND] = {**files, "unknown.bin": b""}
    del hub.models[REPOSITORY].commits[SECOND]["open_clip_model.safetensors"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = ask(hub, elsewhere)
    assert "has none of the files open_clip_model.safetensors" in done.stderr


def test_a_model_in_parts_comes_with_its_parts_first(hub: FakeHub, tmp_path: Path) -> None:
    parts = {f"model-0000{number}-of-00002.safetensors": WEIGHTS[number:] for number in (1, 2)}
    index = b'{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    hub.models[REPOSITORY].commits[SECOND] = {
        **{"config.json": b"{}", "model.safetensors.index.json": index},
        **parts,
        "other-00001-of-00002.safetensors": b"",
    }
    path = Path(ask(hub, tmp_path).stdout.strip())
    assert path.name == "model.safetensors.index.json"
    assert {each.name for each in path.parent.iterdir()} == {"config.json", path.name, *parts}
    files = [seen.path.rpartition("/")[2] for seen in hub.requests("/resolve/") if seen.method == "GET"]
    assert files[-1] == path.name


def test_a_run_is_pinned_to_its_commit(
    hub: FakeHub, workplace: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(workplace / "hub"))
    template = f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    model = hub.models[REPOSITORY]
    for seed, commit in enumerate((FIRST, SECOND)):
        content = write_safe(workplace / "weights.safetensors", seed).read_bytes()
        (workplace / "weights.safetensors").unlink()
        model.commits[commit] = {"config.json": b"{}", "model.safetensors": content}
    model.names["main"] = FIRST
    arguments = ("--weights", NAME, "--method", "tip-adapter")
    done = cli("--train", *arguments)
    assert done.status == 0, done.err
    facts = json.loads(next(workplace.glob("results/runs/*/run.json")).read_text())
    assert facts["settings"]["weights"] == NAME
    assert facts["weights_revision"] == FIRST
    assert facts["weights_sha256"] == hashlib.sha256(model.commits[FIRST]["model.safetensors"]).hexdigest()
    model.names["main"] = SECOND
    hub.seen.clear()
    done = cli("--predict", "result.txt", *arguments)
    assert done.status == 0, done.err
    assert hub.seen == []


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setenv("JCLIP_WEIGHTS_DIR", str(tmp_path))
    with pytest.raises(Exception, match=r"needs the package huggingface_hub .*pip install 'huggingface_hub<1.18'"):
        resolve(NAME)


@pytest.mark.parametrize("name", ["hf:", "hf:name", "hf:a/b/c", "hf:a/b@", "hf:a b/c", "hf:org/na me"])
def test_malformed_names(name: str) -> None:
    with pytest.raises(UsageError, match="expected hf:ORG/NAME"):
        resolve(name)


def test_names() -> None:
    for odd in ("hf:a/..", "hf:../..", "hf:a/.", "hf:org--x/cn", "hf:-org/cn", "hf:org/cn.git", "hf:org/a..b"):
        with pytest.raises(UsageError, match="expected hf:ORG/NAME"):
            parse(odd)
    assert parse("hf:a/b@refs/pr/1") == ("a/b", "b", "refs/pr/1")
    assert pinned("open_clip:ViT-B-32/laion2b_s34b_b79k", FIRST) == f"hf:laion/CLIP-ViT-B-32-laion2B-s34B-b79K@{FIRST}"
    assert pinned("folder/hf", FIRST) == "folder/hf"
    assert pinned("hf:a/b", "") == "hf:a/b"


def test_the_cache_is_checked_by_its_names(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / FIRST
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    content = blobs / hashlib.sha256(b"x").hexdigest()
    content.write_bytes(b"x")
    (snapshot / "model.safetensors").symlink_to(content)
    check_cached(snapshot / "model.safetensors", content.name)
    with pytest.raises(WeightsError, match="is damaged"):
        check_cached(snapshot / "model.safetensors", "0" * 64)
    check_cached(tmp_path / "elsewhere", "0" * 64)


def test_a_misspelt_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'open_clip:ViT-B-32/laion2b_s34b_b79k'\?"):
        resolve("open_clip:ViT-B-32/laion2b_s34b_b79")
    with pytest.raises(WeightsError, match="write hf:somebody/else"):
        resolve("https://huggingface.co/somebody/else")
    with pytest.raises(WeightsError, match=r"Did you mean 'hf:apple/DFN2B-CLIP-ViT-B-16'\?"):
        resolve("apple/DFN2B-CLIP-ViT-B-16")


def test_the_table() -> None:
    models = published_models()
    assert len(models) <= 25
    assert len({model.weights for model in models}) == len(models)
    for model in models:
        if model.weights.startswith("hf:"):
            assert parse(model.weights).revision == ""
        assert canonical(f"open_clip:{model.open_clip}") == model.weights if model.open_clip else True
        assert 10 <= int(model.parameters_millions) < 5000
        assert int(model.image_size) in (224, 256, 336)
        assert 50 < float(model.imagenet or 60) < 90
        assert model.licence
        assert model.good_for
        for source in (model.figures, model.licence_source):
            assert source.startswith("https://")
