"""CLIP's weights by name: found on this machine, else downloaded from OpenAI's public address."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import ssl
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from jclip_adapter import storage
from jclip_adapter.core.choices import NETWORKS, SAMPLE
from jclip_adapter.core.console import progress
from jclip_adapter.core.errors import MissingWeightsError, WeightsError, suggest
from jclip_adapter.core.resources import kept

from . import hub
from .folders import SUFFIXES, weight_file_in
from .published import canonical, published_models

FOLDER = kept("data/weights")
FOLDER_VARIABLE = "JCLIP_WEIGHTS_DIR"
_SUFFIXES = (".pkl", ".safetensors", ".pt")
_TIMEOUT_S = 30.0
_OF_THE_HUB = re.compile(r"(?:https://huggingface\.co/|HF:)?(\w[\w.-]*/\w[\w.-]*)")

Opener = Callable[[str], IO[bytes]]


@dataclass(frozen=True)
class KnownWeights:
    """Weights that OpenAI published.

    Args:
        stem: Their file's name without suffix; a `/` and `@` of the model's name become `-`.
        sha256: The SHA-256 of OpenAI's file.
    """

    stem: str
    sha256: str

    @property
    def url(self) -> str:
        """OpenAI's public address of the file."""
        return f"https://openaipublic.azureedge.net/clip/models/{self.sha256}/{self.stem}.pt"


# Source: the table in https://github.com/openai/CLIP/blob/main/clip/clip.py
KNOWN: Mapping[str, KnownWeights] = MappingProxyType(
    {
        name: KnownWeights(name.replace("/", "-").replace("@", "-"), sha256)
        for name, sha256 in (
            ("RN50", "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"),
            ("RN101", "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599"),
            ("RN50x4", "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd"),
            ("RN50x16", "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa"),
            ("RN50x64", "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c"),
            ("ViT-B/32", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"),
            ("ViT-B/16", "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"),
            ("ViT-L/14", "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"),
            ("ViT-L/14@336px", "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"),
        )
    }
)


def resolve(name_or_path: str | Path, opener: Opener | None = None) -> Path:
    """Find a weight file by path, folder or name; a name that `find_local` does not find is downloaded.

    A download of OpenAI's goes to the folder of the environment variable `JCLIP_WEIGHTS_DIR` if it is set, else to
    data/weights/; one of the Hugging Face hub to the hub's cache.

    Args:
        name_or_path: A file, a folder for `folders.weight_file_in`, one of `KNOWN` (`ViT-B/32`, or the file's stem
            `ViT-B-32`), `hf:ORG/NAME[@REVISION]` for `hub.fetch`, or `open_clip:ARCHITECTURE/TAG` of published.csv.
        opener: Opens an address for reading; for tests.

    Returns:
        The file's path.

    Raises:
        WeightsError: unknown file or name, or the download failed or has the wrong SHA-256.
        UsageError: a malformed name of the hub, or an unknown one of open_clip.
        SetupError: the hub's package is not installed.
    """
    text = canonical(str(name_or_path))
    if text.startswith(hub.PREFIX):
        return hub.fetch(text, _folders())
    known = _known(text)
    if known is None:
        path = Path(name_or_path).expanduser()
        if path.is_file():
            return path
        if path.is_dir():
            return weight_file_in(path)
        names = {*KNOWN, *NETWORKS, SAMPLE, *(model.weights for model in published_models())}
        near, of_hub = suggest(text, sorted(names)), _OF_THE_HUB.fullmatch(text)
        if of_hub and path.suffix not in SUFFIXES and not near.startswith("Did"):
            near = f"For a model of the Hugging Face hub write hf:{of_hub[1]}."
        raise MissingWeightsError(f"{text!r} is neither a weight file, a folder with one, nor a known name.", near)
    found = find_local(text)
    if found is not None:
        return found
    target = _folders()[0] / f"{known.stem}.pt"
    _download(known, target, opener or _open)
    return target


def find_local(name: str) -> Path | None:
    """The file of weights in `KNOWN` on this machine; None if it has to be downloaded.

    It is `<stem>.pkl`, `.safetensors` or `.pt`, in the folder of `JCLIP_WEIGHTS_DIR` or in data/weights/.
    """
    known = _known(name)
    files = [folder / f"{known.stem}{suffix}" for folder in _folders() for suffix in _SUFFIXES] if known else []
    return next((file for file in files if file.is_file()), None)


def _known(text: str) -> KnownWeights | None:
    return KNOWN.get(text) or next((entry for entry in KNOWN.values() if entry.stem == text), None)


def check_published(name_or_path: str | Path, path: Path, sha256: str) -> None:
    """Check the SHA-256 of weights found by name.

    Other files of that name, JCLIP's `.pkl` or a converted one, have no published checksum and pass.

    Args:
        name_or_path: The requested name.
        path: The file found.
        sha256: Of that file.

    Raises:
        WeightsError: it is a `.pt` other than OpenAI's.
    """
    known = _known(canonical(str(name_or_path)))
    if known is not None and path.suffix == ".pt" and sha256 != known.sha256:
        raise WeightsError(
            f"{path} is damaged or not OpenAI's: its SHA-256 is {sha256}.",
            f"Remove it to download it again; for your own weights give the path: --weights {path}.",
        )


def _folders() -> list[Path]:
    chosen = os.environ.get(FOLDER_VARIABLE)
    return [Path(chosen).expanduser(), FOLDER] if chosen else [FOLDER]


def _open(url: str) -> IO[bytes]:
    # Not https's default context, in which jittor_utils disables certificate checks.
    handler = urllib.request.HTTPSHandler(context=ssl.create_default_context())
    response: IO[bytes] = urllib.request.build_opener(handler).open(url, timeout=_TIMEOUT_S)
    return response


def _download(known: KnownWeights, target: Path, opener: Opener) -> None:
    digest = hashlib.sha256()
    try:
        response = opener(known.url)
    except (OSError, http.client.HTTPException) as error:
        raise _offline(known, target, error) from None
    with (
        response,
        storage.atomic_write(target) as handle,
        progress(total=_length(response), unit="B", unit_scale=True, desc=f"downloading {target.name}") as bar,
    ):
        while block := _read(response, known, target):
            digest.update(block)
            handle.write(block)
            bar.update(len(block))
        if digest.hexdigest() != known.sha256:
            raise WeightsError(
                f"the download from {known.url} is not {target.name}: its SHA-256 is {digest.hexdigest()}.",
                f"It was discarded. Try again, or {_by_hand(known, target)}",
            )


def _read(response: IO[bytes], known: KnownWeights, target: Path) -> bytes:
    # Caught here, as atomic_write would report a broken connection's OSError as a full disk.
    try:
        return response.read(1 << 20)
    except (OSError, http.client.HTTPException) as error:
        raise _offline(known, target, error) from None


def _length(response: Any) -> int | None:
    length = response.headers.get("Content-Length", "") if hasattr(response, "headers") else ""
    return int(length) if length.isdecimal() else None


def _offline(known: KnownWeights, target: Path, error: Exception) -> WeightsError:
    reason = getattr(error, "reason", None) or error
    return WeightsError(
        f"cannot download {known.url}: {str(reason) or type(reason).__name__}.",
        f"To work offline, {_by_hand(known, target)} Without CLIP, the weights {NETWORKS[0]!r} learn classes "
        "from photos alone (docs/backbones.md).",
    )


def _by_hand(known: KnownWeights, target: Path) -> str:
    jclip = "JCLIP's ViT-B-32.pkl (github.com/uyzhang/JCLIP, Releases) or " if known.stem == "ViT-B-32" else ""
    return f"put {jclip}OpenAI's {known.stem}.pt into {target.parent}."
