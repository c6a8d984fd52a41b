"""A contact sheet of the sample: one row per domain, so that its README shows what the data look like."""

from __future__ import annotations

import argparse
import io
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from jclip_adapter import storage
from jclip_adapter.storage.checksums import png_with_checksum
from jclip_adapter.storage.kinds import SOFTWARE, unchanged_png

from .canvas import Style
from .classes import CLASSES, KINDS, PictureClass
from .painter import BOOK_STYLE, PHOTO_STYLE, SEED, paint, picture_rng

_CELL = 72
_HEADING = 14
_CAPTION = 26  # two lines
_LINE = 13  # characters of a caption that fit under a picture
_MARGIN = 6


def draw_contact_sheet(
    *, style: Style = PHOTO_STYLE, split: str = "train", per_row: int = 14, seed: int = SEED
) -> Image.Image:
    """Draw the first picture of every class, under its domain's heading.

    Args:
        style: How the pictures are drawn.
        split: `train`, `test` or `pretrain`: whose first pictures.
        per_row: Pictures in a row.
        seed: Seed of the pictures.

    Returns:
        The sheet, an RGB image.
    """
    rows: list[tuple[str, list[tuple[int, PictureClass]]]] = []
    for domain in KINDS:
        members = [(class_id, kind) for class_id, kind in enumerate(CLASSES) if kind.domain == domain]
        rows += [
            (domain if start == 0 else "", members[start : start + per_row])
            for start in range(0, len(members), per_row)
        ]
    step = _CELL + _CAPTION + _MARGIN
    sheet = Image.new("RGB", (per_row * (_CELL + _MARGIN) + _MARGIN, len(rows) * (step + _HEADING) + _MARGIN), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=10)
    for row, (domain, members) in enumerate(rows):
        y = _MARGIN + row * (step + _HEADING)
        draw.text((_MARGIN, y), domain, fill="black", font=font)
        for column, (class_id, kind) in enumerate(members):
            x = _MARGIN + column * (_CELL + _MARGIN)
            picture = paint(kind, style, picture_rng(seed, split, class_id, 0))
            sheet.paste(picture.resize((_CELL, _CELL), Image.Resampling.LANCZOS), (x, y + _HEADING))
            caption = "\n".join(textwrap.wrap(kind.spoken, _LINE)[:2])
            draw.multiline_text((x, y + _HEADING + _CELL + 1), caption, fill=(60, 60, 60), font=font, spacing=1)
    return sheet


def _software() -> PngInfo:
    info = PngInfo()
    info.add_text("Software", SOFTWARE)
    return info


def write_contact_sheet(path: str | Path, *, style: Style = PHOTO_STYLE, split: str = "train") -> None:
    """Write the contact sheet as a PNG of 256 colours, which keeps it small.

    Raises:
        SetupError: the file cannot be written.
    """
    buffer = io.BytesIO()
    sheet = draw_contact_sheet(style=style, split=split)
    sheet.quantize(256, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True, pnginfo=_software())
    storage.write_bytes(path, png_with_checksum(buffer.getvalue()), storage.Kind("a contact sheet", unchanged_png))


def main() -> None:
    """Write the contact sheet to the path given."""
    parser = argparse.ArgumentParser(description="Draw a contact sheet of the built-in sample.")
    parser.add_argument("--out", default="results/sample.png", help="where to write the PNG")
    parser.add_argument("--style", choices=("photo", "book"), default="photo", help="the photos', or the pretraining's")
    arguments = parser.parse_args()
    book = arguments.style == "book"
    write_contact_sheet(arguments.out, style=BOOK_STYLE if book else PHOTO_STYLE, split="pretrain" if book else "train")


if __name__ == "__main__":
    main()
