"""The report of a run: one HTML file that contains its pictures and loads nothing.

The commands of a run each write a part of it. A command replaces its own part and keeps the others, so that a
prediction neither loses the evaluation nor makes its thumbnails again. The file is also the store of the parts: they
stand between comments, which no escaped text can contain.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from jclip_adapter.core.problems import one_line
from jclip_adapter.core.version import __version__
from jclip_adapter.storage import Kind, write_text
from jclip_adapter.storage.checksums import MARKDOWN_MARK, text_with_checksum
from jclip_adapter.storage.kinds import text_of

from .texts import LANGUAGES, TEXTS

PARTS = ("evaluation", "prediction", "training", "benchmark", "found")
"""The parts of a report, in their order."""
_PART = re.compile(r"<!-- part: (\w+) -->\n(.*?)\n<!-- end: \1 -->", re.DOTALL)
_HEADING = re.compile(r'<h([23]) id="([\w-]+)">(.*?)</h\1>')
# Code points that HTML does not allow, besides control characters and surrogates.
_NO_CHARACTERS = re.compile(
    "[\ufdd0-\ufdef" + "".join(chr(plane << 16 | end) for plane in range(17) for end in (0xFFFE, 0xFFFF)) + "]"
)
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{}'; base-uri 'none'"


def shown(text: str) -> str:
    r"""A text of the user as HTML allows it: one line, with other characters as escapes.

    >>> shown("a\nb\udcff\ufdd0")
    'a\\nb\\udcff\ufffd'
    """
    return _NO_CHARACTERS.sub("\ufffd", one_line(text))


def _finalize(value: Any) -> Any:
    """Values of the templates: texts that are not markup, as HTML allows them."""
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _percent(value: float | Sequence[float], digits: int = 1) -> str:
    """A value in percent, or an interval, that stays on one line."""
    values = value if isinstance(value, Sequence) else [value]
    return "–".join(f"{each:.{digits}f}" for each in values) + "\u00a0%"


def _name(text: str) -> Markup:
    """A name of the user, isolated, as it may be written from right to left, and broken after underscores only."""
    return Markup("<bdi>{}</bdi>").format(escape(shown(text)).replace("_", Markup("_<wbr>")))


def _isolated(value: Any) -> Any:
    """A field of a text: names that are not markup yet as `_name`."""
    return _name(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@functools.cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("jclip_adapter.web"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "name": _name}
    return environment


def _source(name: str) -> Markup:
    """A file of the templates' folder as it is."""
    environment = _templates()
    assert environment.loader is not None  # noqa: S101  (for the type checker)
    return Markup(environment.loader.get_source(environment, name)[0].strip())  # noqa: S704  (the package's own file)


def texts_of(language: str, files: str) -> tuple[Callable[..., str], Callable[..., Markup]]:
    """Functions from a key of `TEXTS` and its fields to a text: plain for attributes, and as markup.

    Args:
        language: A key of `LANGUAGES`.
        files: "photos" or "sounds".

    >>> plain, markup = texts_of("en", "photos")
    >>> plain("predicted_as", name="<i>"), str(markup("predicted_as", name="<i>"))
    ('predicted as <i>', 'predicted as <bdi>&lt;i&gt;</bdi>')
    """
    column = list(LANGUAGES).index(language)

    def plain(key: str, **values: Any) -> str:
        return TEXTS[key][column].format(files=TEXTS[files][column], **values)

    def markup(key: str, **values: Any) -> Markup:
        isolated = {name: _isolated(value) for name, value in values.items()}
        words = TEXTS[key][column].replace(" %", "\u00a0%")
        return escape(words).format(files=TEXTS[files][column], **isolated)

    return plain, markup


def render(template: str, language: str, files: str = "photos", **values: Any) -> str:
    """A part of the report.

    Args:
        template: Name of its template, without suffix.
        language: A key of `LANGUAGES`.
        files: "photos" or "sounds".
        values: The template's other variables.
    """
    text, markup = texts_of(language, files)
    page = _templates().get_template(f"{template}.html")
    return page.render(lang=LANGUAGES[language], text=text, t=markup, files=files, **values).strip()


def write_report(path: Path, kind: Kind, title: str, language: str, parts: Mapping[str, str]) -> None:
    """Write parts of a report, keeping the other parts of an existing one.

    Args:
        path: The report.
        kind: The kind of file that may be replaced, recognised by the last line.
        title: Its title.
        language: A key of `LANGUAGES`, for the text around the parts.
        parts: HTML by name, one of `PARTS`.

    Raises:
        UsageError: a file of another origin is there.
        SetupError: it cannot be written.
    """
    found = {**parts_of(path, kind), **parts}
    ordered = {name: Markup(found[name]) for name in PARTS if name in found}  # noqa: S704  (from `render`)
    headings = [
        (level, name, Markup(text))  # noqa: S704  (from `render`)
        for part in ordered.values()
        for level, name, text in _HEADING.findall(part)
    ]
    script = _source("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = render(
        "page",
        language,
        title=title,
        parts=ordered,
        headings=headings,
        style=_source("report.css"),
        script=script,
        policy=Markup(_POLICY.format(digest)),  # noqa: S704  (a constant and a digest)
        version=__version__,
    )
    write_text(path, text_with_checksum(f"{page}\n", MARKDOWN_MARK), kind)


def parts_of(path: Path, kind: Kind) -> dict[str, str]:
    """The parts of a report by name; empty if there is none, or a file of another origin."""
    return dict(_PART.findall(text_of(path))) if kind.owns(path) else {}
