"""A page of photos that were found in features in parts: nearest to a query, or nearly the same."""

from __future__ import annotations

from collections.abc import Sequence

from jclip_adapter.core.errors import AdapterError
from jclip_adapter.data.photos.decoders import in_threads
from jclip_adapter.data.photos.reading import Reading
from jclip_adapter.features.parts.source import photo_of

from .report import render, texts_of
from .thumbnails import data_uri, small_jpeg

Entry = tuple[float, tuple[str, ...], str]
SIDE = 224
MOST = 500
"""Entries on a page; a thumbnail has some 10 kB."""


def nearest_to(query: str, language: str) -> str:
    """The heading of a search."""
    return texts_of(language, "photos")[0]("nearest_to", query=query)


def nearly_same(least: float, language: str) -> str:
    """The heading of near duplicates."""
    return texts_of(language, "photos")[0]("nearly_same", least=f"{least:g}")


def found_part(heading: str, entries: Sequence[Entry], source: str, reading: Reading, language: str) -> str:
    """The page's HTML.

    Args:
        heading: What was asked.
        entries: A cosine, the keys of the photo or of the pair, and a label or none. The first `MOST` are shown.
        source: The source of the photos, as `features.parts.source.units` takes it.
        reading: How photo files are read.
        language: A key of `texts.LANGUAGES`.
    """
    shown = entries[:MOST]
    keys = list(dict.fromkeys(key for _, names, _ in shown for key in names))
    thumbnails = dict(zip(keys, in_threads(lambda key: _picture(source, key, reading), keys), strict=True))
    return render(
        "found", language, heading=heading, entries=shown, count=len(entries), thumbnails=thumbnails, source=source
    )


def _picture(source: str, key: str, reading: Reading) -> str:
    """A thumbnail as an address; empty for a photo that cannot be read, or is gone."""
    try:
        return data_uri(small_jpeg(photo_of(source, key), key, SIDE, reading))
    except (AdapterError, OSError):
        return ""
