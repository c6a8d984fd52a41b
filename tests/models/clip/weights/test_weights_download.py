"""Weights by name: found on this machine, or downloaded and checked."""

from __future__ import annotations

import hashlib
import http.client
import io
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any

import pytest

from jclip_adapter.core.errors import SetupError, WeightsError
from jclip_adapter.models.weights import KNOWN, KnownWeights, download, resolve

CONTENT = b"weights" * 1000


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data/weights/ and a table in which RN50 is CONTENT."""
    monkeypatch.delenv(download.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(download, "FOLDER", tmp_path / "weights")
    monkeypatch.setattr(download, "KNOWN", dict(KNOWN, RN50=KnownWeights("RN50", hashlib.sha256(CONTENT).hexdigest())))
    return tmp_path / "weights"


def no_network(url: str) -> IO[bytes]:
    raise AssertionError(f"opened {url}")


def offline(url: str) -> IO[bytes]:
    raise urllib.error.URLError("Name or service not known")


class Breaking(io.BytesIO):
    """A connection that breaks after its first block."""

    def __init__(self, error: Exception) -> None:
        super().__init__(CONTENT)
        self.error = error

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise self.error
        return super().read(100)


def test_the_table() -> None:
    stems = {
        "RN50": "RN50",
        "RN101": "RN101",
        "RN50x4": "RN50x4",
        "RN50x16": "RN50x16",
        "RN50x64": "RN50x64",
        "ViT-B/32": "ViT-B-32",
        "ViT-B/16": "ViT-B-16",
        "ViT-L/14": "ViT-L-14",
        "ViT-L/14@336px": "ViT-L-14-336px",
    }
    assert {name: known.stem for name, known in KNOWN.items()} == stems
    assert len({known.sha256 for known in KNOWN.values()}) == len(stems)
    assert all(len(bytes.fromhex(known.sha256)) == 32 for known in KNOWN.values())
    assert KNOWN["ViT-B/32"].url == (
        "https://openaipublic.azureedge.net/clip/models/"
        "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt"
    )


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "my.pkl").write_bytes(CONTENT)
    assert resolve(tmp_path / "my.pkl", no_network) == tmp_path / "my.pkl"
    assert resolve(str(tmp_path / "my.pkl"), no_network) == tmp_path / "my.pkl"


@pytest.mark.parametrize("suffix", [".pkl", ".safetensors", ".pt"])
@pytest.mark.parametrize("name", ["ViT-B/32", "ViT-B-32"])
def test_local_file_by_name(name: str, suffix: str, folder: Path) -> None:
    folder.mkdir()
    (folder / f"ViT-B-32{suffix}").write_bytes(CONTENT)
    assert resolve(name, no_network) == folder / f"ViT-B-32{suffix}"


def test_folder_of_the_environment_comes_first(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (folder, tmp_path / "mine"):
        place.mkdir()
        (place / "RN50.pt").write_bytes(CONTENT)
    monkeypatch.setenv(download.FOLDER_VARIABLE, str(tmp_path / "mine"))
    assert resolve("RN50", no_network) == tmp_path / "mine" / "RN50.pt"
    (tmp_path / "mine" / "RN50.pt").unlink()
    assert resolve("RN50", no_network) == folder / "RN50.pt"


def test_download(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[str] = []

    def opener(url: str) -> IO[bytes]:
        asked.append(url)
        return io.BytesIO(CONTENT)

    assert resolve("RN50", opener) == folder / "RN50.pt"
    assert (folder / "RN50.pt").read_bytes() == CONTENT
    assert resolve("RN50", no_network) == folder / "RN50.pt"
    assert asked == [download.KNOWN["RN50"].url]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "downloading RN50.pt: " in captured.err


def test_wrong_content_leaves_nothing(folder: Path) -> None:
    with pytest.raises(WeightsError, match="SHA-256"):
        resolve("RN50", lambda url: io.BytesIO(CONTENT + b"!"))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), TimeoutError(), http.client.IncompleteRead(b"")])
def test_broken_connection_leaves_nothing(error: Exception, folder: Path) -> None:
    with pytest.raises(WeightsError, match="cannot download"):
        resolve("RN50", lambda url: Breaking(error))
    assert list(folder.iterdir()) == []


def test_offline_says_what_to_do(folder: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        resolve("ViT-B/32", offline)
    assert "Name or service not known" in caught.value.message
    by_hand = f"put JCLIP's ViT-B-32.pkl (github.com/uyzhang/JCLIP, Releases) or OpenAI's ViT-B-32.pt into {folder}."
    assert by_hand in caught.value.hint
    assert "Without CLIP, the weights 'efficientnet-lite0' learn classes" in caught.value.hint
    with pytest.raises(WeightsError) as caught:
        resolve("RN50", offline)
    assert "JCLIP" not in caught.value.hint
    assert not folder.exists()


def test_folder_that_cannot_be_written(folder: Path) -> None:
    folder.write_bytes(b"")
    with pytest.raises(SetupError, match="cannot write"):
        resolve("RN50", lambda url: io.BytesIO(CONTENT))


@pytest.mark.parametrize(
    ("name", "hint"), [("ViT-B32", "'ViT-B/32'"), ("vit-b/16", "'ViT-B/16'"), ("none/there.pkl", "Known are")]
)
def test_unknown_name(name: str, hint: str) -> None:
    with pytest.raises(WeightsError, match=hint):
        resolve(name, no_network)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"the folder .* has no weight file"):
        resolve(tmp_path, no_network)


def test_certificates_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even after a library has switched them off for https's default context, as jittor_utils does."""
    contexts: list[ssl.SSLContext] = []

    class Handler(urllib.request.HTTPSHandler):
        def __init__(self, context: ssl.SSLContext) -> None:
            contexts.append(context)
            super().__init__(context=context)

        def https_open(self, req: Any) -> Any:
            raise urllib.error.URLError("stopped here")

    monkeypatch.setattr(ssl, "_create_default_https_context", ssl._create_unverified_context)
    monkeypatch.setattr(urllib.request, "HTTPSHandler", Handler)
    with pytest.raises(WeightsError, match="stopped here"):
        resolve("RN50")
    assert contexts[0].verify_mode == ssl.CERT_REQUIRED
    assert contexts[0].check_hostname
