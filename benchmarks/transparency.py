"""What shows through transparent pixels, and what it costs: the sample's objects, cut out of their pictures.

Each object of the sample's test photos is drawn on black and on white in the same pose; where both agree it is opaque.
Photo and opacity make a PNG as a person would cut it out, which is read with each choice and classified by zero-shot
with the sample's CLIP. Writes `results/transparency.json`.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from jclip_adapter.core.task import normalise
from jclip_adapter.data.photos.decode import open_image
from jclip_adapter.data.photos.preprocess import square_pixels
from jclip_adapter.data.photos.reading import TRANSPARENT, Reading
from jclip_adapter.data.texts.prompts import load_prompts
from jclip_adapter.features.encoding import encode_classes
from jclip_adapter.models.clip.encoder import load_encoder
from jclip_adapter.storage import write_json
from tools.sample.canvas import Pen
from tools.sample.classes import CLASSES, PictureClass
from tools.sample.painter import PHOTO_SIZE, PHOTO_STYLE, SEED, paint, picture_rng
from tools.sample.scenery import paint_background

_PER_CLASS = 12
_SIDE = 2 * PHOTO_SIZE  # objects are drawn at twice the size, as `paint` does


def cut_out(kind: PictureClass, label: int, index: int) -> tuple[bytes, float]:
    """A test photo's PNG with all but the object transparent, and the share of opaque pixels."""
    rng = picture_rng(SEED, "test", label, index)
    paint_background(Image.new("RGB", (_SIDE, _SIDE)), PHOTO_STYLE, rng)  # draws the numbers that come before the pose
    state = rng.bit_generator.state
    drawn = []
    for colour in ("black", "white"):
        rng.bit_generator.state = state
        canvas = Image.new("RGB", (_SIDE, _SIDE), colour)
        kind.paint(Pen(canvas, PHOTO_STYLE, rng))
        drawn.append(np.asarray(canvas).astype(np.int16))
    opaque = Image.fromarray((255 - np.clip((drawn[1] - drawn[0]).min(axis=2), 0, 255)).astype(np.uint8))
    photo = paint(kind, PHOTO_STYLE, picture_rng(SEED, "test", label, index))
    opaque = opaque.resize(photo.size, Image.Resampling.BOX)
    photo.putalpha(opaque)
    buffer = io.BytesIO()
    photo.save(buffer, "PNG")
    return buffer.getvalue(), float(np.asarray(opaque).mean() / 255)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all choices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/transparency.json"))
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    encoder = load_encoder("sample", "cpu")
    names, domains = [kind.name for kind in CLASSES], [kind.domain for kind in CLASSES]
    with tempfile.TemporaryDirectory() as folder:
        texts = encode_classes(encoder, load_prompts("seed"), names, domains, Path(folder)).weights
    labels = np.repeat(np.arange(len(CLASSES)), _PER_CLASS)
    files = [cut_out(kind, label, index) for label, kind in enumerate(CLASSES) for index in range(_PER_CLASS)]
    top1 = {}
    pictures: list[Image.Image]
    for choice in (*TRANSPARENT, "whole"):
        if choice == "whole":
            pictures = [Image.open(io.BytesIO(data)) for data, _ in files]
            for picture in pictures:
                picture.putalpha(255)
        else:
            pictures = [open_image(data, "cut-out", Reading(transparent=choice)) for data, _ in files]
        pixels = np.stack([square_pixels(picture, encoder.image_size) for picture in pictures])
        step = encoder.batch_size
        raw = np.concatenate([encoder.images(pixels[at : at + step]) for at in range(0, len(pixels), step)])
        top1[choice] = round(float(((normalise(raw) @ texts.T).argmax(axis=1) == labels).mean()), 4)
    share = round(float(np.mean([opaque for _, opaque in files])), 3)
    write_json(arguments.out, {"photos": len(files), "opaque_share": share, "zero_shot_top1": top1})
    return 0


if __name__ == "__main__":
    sys.exit(main())
