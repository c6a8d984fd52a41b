"""CLIPs of the Hugging Face hub by name: a folder of the user's, the hub's cache, or a download.

    hf:ORG/NAME, hf:ORG/NAME@REVISION

The package huggingface_hub downloads, resumes and caches; its environment variables work as usual: HF_HOME, HF_ENDPOINT
(a mirror), HF_HUB_OFFLINE, HF_TOKEN.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jclip_adapter.core.console import progress
from jclip_adapter.core.errors import SetupError, UsageError, WeightsError, suggest

from .folders import NAMES, weight_file_in
from .published import canonical, published_models

_log = logging.getLogger(__name__)

PREFIX = "hf:"
PACKAGE = "huggingface_hub"
_NAME = re.compile(r"hf:(?P<repository>\w[\w.-]*/(?P<name>\w[\w.-]*))(?:@(?P<revision>[\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAIN = "main"
_TRIES = 5  # of a file whose connection breaks
# What stands beside the weights: configurations, and the tokenizers' files.
_BESIDE = (
    *("open_clip_config.json", "config.json", "preprocessor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt", "vocab.txt"),
    *("spiece.model", "tokenizer.model", "sentencepiece.bpe.model"),
)


class HubName(NamedTuple):
    """A model of the hub.

    Attributes:
        repository: ORG/NAME.
        name: NAME.
        revision: A branch, tag or commit; empty for the default branch.
    """

    repository: str
    name: str
    revision: str

    @property
    def folder(self) -> str:
        """Name of the folder with files that the user put there."""
        return f"{self.name}@{self.revision}" if self.revision else self.name


def parse(text: str) -> HubName:
    """Parse `hf:ORG/NAME[@REVISION]`.

    >>> parse("hf:laion/CLIP-ViT-B-32-laion2B-s34B-b79K@main").revision
    'main'

    Raises:
        UsageError: it has another form.
    """
    match = _NAME.fullmatch(text)
    if match is None or re.search(r"--|\.\.", match["repository"]) or match["repository"].endswith(".git"):
        raise UsageError(f"--weights {text}: expected hf:ORG/NAME or hf:ORG/NAME@REVISION.", "Correct the name.")
    return HubName(match["repository"], match["name"], match["revision"] or "")


def pinned(weights: str, revision: str) -> str:
    """The name of weights at the commit that a run was trained with; unchanged for other weights.

    >>> pinned("hf:laion/CLIP@main", "0" * 40) == "hf:laion/CLIP@" + "0" * 40
    True
    >>> pinned("ViT-B/32", "")
    'ViT-B/32'
    """
    name = canonical(weights)
    return f"{PREFIX}{parse(name).repository}@{revision}" if revision and name.startswith(PREFIX) else weights


def revision_of(path: Path) -> str:
    """The commit of a file in the hub's cache; empty for another file."""
    commit = path.parent.name
    return commit if path.parent.parent.name == "snapshots" and _COMMIT.fullmatch(commit) else ""


def check_cached(path: Path, sha256: str) -> None:
    """Check a file of the hub's cache, whose content is in a file named by its SHA-256; other files pass.

    Args:
        path: The file.
        sha256: Of its content.

    Raises:
        WeightsError: it is damaged.
    """
    content = path.resolve()
    if content.parent.name == "blobs" and _SHA256.fullmatch(content.name) and content.name != sha256:
        raise WeightsError(
            f"{path.name} is damaged: its SHA-256 is {sha256}, the hub's is {content.name}.",
            f"Remove {content} to download it again.",
        )


def fetch(text: str, folders: Sequence[Path]) -> Path:
    """Find or download a model's weights and the files beside them.

    In order: a folder NAME, or NAME@REVISION, in `folders`; a commit in the hub's cache; a download; without a
    connection the hub's cache, as last downloaded.

    Args:
        text: `hf:ORG/NAME[@REVISION]`.
        folders: Where the user puts weights; the first is named in errors.

    Returns:
        The weight file, with its configuration in the same folder.

    Raises:
        UsageError: the name has another form.
        SetupError: huggingface_hub is not installed.
        WeightsError: the hub cannot be reached, refuses, or has no weights that can be read.
    """
    wanted = parse(text)
    for folder in folders:
        if (folder / wanted.folder).is_dir():
            return weight_file_in(folder / wanted.folder)
    hub = _package(wanted, folders[0])
    if _COMMIT.fullmatch(wanted.revision) and (found := _cached(hub, wanted)) and _is_whole(found):
        return found
    try:
        return _download(hub, wanted)
    except (OSError, hub.errors.HTTPError, hub.errors.HFValidationError) as error:
        found = _cached(hub, wanted)
        if found is None:
            raise _failure(hub, wanted, folders[0], error) from None
        _log.warning("%s: %s; using %s, downloaded before", text, _reason(error), revision_of(found))
        return found


def _package(wanted: HubName, folder: Path) -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise SetupError(
            f"hf:{wanted.repository} needs the package {PACKAGE} ({error}).",
            f"Run `pip install 'huggingface_hub<1.18'`, or {_by_hand(wanted, folder)}",
        ) from None
    # httpx logs every address, also signed ones; the package's warnings are several lines each.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger(PACKAGE).setLevel(logging.ERROR)
    return huggingface_hub


def _cached(hub: Any, wanted: HubName) -> Path | None:
    """The weight file in the hub's cache; None if it was not downloaded completely."""
    for name in NAMES:
        found = hub.try_to_load_from_cache(wanted.repository, name, revision=wanted.revision or _MAIN)
        if isinstance(found, str):
            return Path(found)
    return None


def _is_whole(weights: Path) -> bool:
    """Whether a download needs no second look: others may have left a pickle or weights alone, or removed a file."""
    there = all(path.exists() for path in weights.parent.iterdir())
    return there and weights.suffix != ".bin" and any((weights.parent / name).is_file() for name in _BESIDE[:2])


def _download(hub: Any, wanted: HubName) -> Path:
    info = hub.HfApi().model_info(wanted.repository, revision=wanted.revision or None)
    offered = {file.rfilename for file in info.siblings or ()}
    weights = _choose(offered, wanted)
    beside = [name for name in _BESIDE if name in offered]
    stem = weights.removesuffix(".safetensors.index.json")
    parts = [name for name in offered if stem != weights and re.fullmatch(rf"{re.escape(stem)}-\d+-of-\d+\.\w+", name)]
    # The weight file is the last: where it is, everything is.
    for name in [*beside, *sorted(parts), weights]:
        found = _download_file(hub, wanted.repository, name, info.sha)
    # The cache notes the commit of a branch only when a file is asked for by the branch.
    hub.hf_hub_download(wanted.repository, weights, revision=wanted.revision or _MAIN)
    return Path(found)


def _download_file(hub: Any, repository: str, name: str, commit: str) -> str:
    """A file's path in the cache; a connection that breaks is opened again, and the download resumed."""
    get = partial(hub.hf_hub_download, repository, name, revision=commit, tqdm_class=partial(_bar, name))
    for _ in range(_TRIES - 1):
        try:
            return str(get())
        except hub.errors.HTTPError as error:
            if isinstance(error, hub.errors.HfHubHTTPError):  # an answer
                raise
            _log.info("%s: %s; resuming the download", name, _reason(error))
    return str(get())


def _bar(name: str, **options: Any) -> Any:
    """The progress bar of a file, none for small ones; by its name, as the package's has a signed address in places."""
    return progress(**{**options, "desc": f"downloading {name}", "delay": 1.0})


def _choose(offered: Collection[str], wanted: HubName) -> str:
    """The weight file to download: safetensors, and a pickle only if there are none."""
    found = next((name for name in NAMES if name in offered), None)
    if found is None:
        raise WeightsError(
            f"hf:{wanted.repository} has none of the files {', '.join(NAMES)}.",
            "Download its weights by hand, and give --weights the file or folder.",
        )
    return found


def _failure(hub: Any, wanted: HubName, folder: Path, error: Exception) -> WeightsError:
    """The error of a download, in one line with what to do."""
    errors, repository = hub.errors, wanted.repository
    page = _public(f"{hub.constants.ENDPOINT}/{repository}")
    if isinstance(error, errors.GatedRepoError):
        return WeightsError(
            f"{repository} is for those who accepted its conditions.",
            f"Accept them at {page}, and put a token of yours into the environment variable HF_TOKEN.",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return WeightsError(
            f"{page} does not exist, or is private.",
            f"{_suggestion(repository)} For a private model put a token into the environment variable HF_TOKEN.",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return WeightsError(f"{page} has no revision {wanted.revision!r}.", "Give a branch, a tag or a commit.")
    return WeightsError(f"cannot download {page}: {_reason(error)}.", f"To work offline, {_by_hand(wanted, folder)}")


def _suggestion(repository: str) -> str:
    names = [model.weights.removeprefix(PREFIX) for model in published_models() if model.weights.startswith(PREFIX)]
    near = suggest(repository, names)
    return near if near.startswith("Did") else "Check the name."


def _reason(error: Exception) -> str:
    """The first line of an error's innermost cause."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return _public(lines[0]).rstrip(".") if lines else type(error).__name__


def _public(text: str) -> str:
    """Text without the passwords of its addresses.

    >>> _public("https://me:secret@mirror.example/ORG/NAME")
    'https://mirror.example/ORG/NAME'
    """
    return re.sub(r"//[^/\s@]*@", "//", text)


def _by_hand(wanted: HubName, folder: Path) -> str:
    return (
        f"put the model's .safetensors with its configuration (open_clip_config.json, or config.json and "
        f"preprocessor_config.json) and its tokenizer's files into {folder / wanted.folder}."
    )
