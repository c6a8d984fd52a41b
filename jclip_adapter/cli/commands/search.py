"""The search command: photos that are nearest to a text or a photo, in features in parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jclip_adapter.cli.app import Invocation
from jclip_adapter.cli.settings import Settings
from jclip_adapter.core.console import print_result
from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.problems import one_line
from jclip_adapter.core.task import Array, normalise
from jclip_adapter.data.parts import read_manifest
from jclip_adapter.data.sets.paths import is_photo
from jclip_adapter.features.encoding import encode_photos, encode_texts
from jclip_adapter.features.parts.index import open_index
from jclip_adapter.features.parts.search import Hit, feature_of, search
from jclip_adapter.models.base import ImageEncoder
from jclip_adapter.models.clip.encoder import Encoder

from .reports import found_page, report_found
from .setup import check_encoded, open_network

_TOP = 20


def find(settings: Settings, query: str, folder: Path) -> list[Hit]:
    """The photos nearest to a text, or to a photo.

    Args:
        settings: The settings; without weights those that the features were made by are used.
        query: The path of a photo, or the key of one that has features; anything else is a text.
        folder: A finished folder of features.

    Returns:
        The photos, nearest first.

    Raises:
        DataError: the features are not finished, or of another network; or the photo cannot be read.
        SetupError: FAISS is not installed, which an index needs.
        UsageError: a folder, nothing, or a text for a network without text encoder.
    """
    manifest = read_manifest(folder)
    if not query.strip():
        raise UsageError("there is nothing to search for.", "Give a text in quotation marks, or a photo.")
    if Path(query).is_dir():
        raise UsageError(f"{query} is a folder.", "Give one photo, or a text.")
    top = settings.top if "top" in settings.given else _TOP
    named = not Path(query).is_file() and is_photo(Path(query).name)
    feature = feature_of(folder, query) if named else None
    if feature is None:
        feature = _encoded(_network(settings, folder, manifest), query, Path(settings.cache))
    return (open_index(folder).search(feature, top) if settings.index else search(folder, feature, top))[0]


def _network(settings: Settings, folder: Path, manifest: Mapping[str, Any]) -> ImageEncoder:
    """The network that the features were made by, or --weights if it is the same."""
    network = dataclasses.replace(
        settings,
        weights=settings.weights or manifest["weights"],
        precision=manifest["precision"],
        **manifest["reading"],
    )
    encoder = open_network(network)
    check_encoded(encoder, folder, manifest)
    return encoder


def _encoded(encoder: ImageEncoder, query: str, cache: Path) -> Array:
    """(1, d) L2-normalised feature of a photo or a text."""
    if Path(query).is_file() or is_photo(Path(query).name):
        found = encode_photos(encoder, [Path(query)], cache)
        found.refuse_bad("photo", "Give another one.")
        return found.normalised
    if not isinstance(encoder, Encoder):
        raise UsageError(f"{query!r:.60} is no photo, and {encoder.weights} has no text encoder.", "Give a photo.")
    try:
        query.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{query!r:.60} is not a text in UTF-8.", "Give a text, or an existing photo.") from error
    return normalise(encode_texts(encoder, [query], cache))


def run(invocation: Invocation) -> None:
    """Print the cosine, the key and the label of each photo, and write the page if one is asked for."""
    query, folder = invocation.operands["search"]
    page = found_page(invocation.settings)
    hits = find(invocation.settings, query, Path(folder))
    for hit in hits:
        print_result("\t".join([f"{hit.score:.3f}", *map(one_line, filter(None, [hit.key, hit.label]))]))
    if page:
        from jclip_adapter.web.found import nearest_to

        entries = [(hit.score, (hit.key,), hit.label) for hit in hits]
        heading = nearest_to(query, invocation.settings.language)
        report_found(page, invocation.settings, Path(folder), heading, entries)
