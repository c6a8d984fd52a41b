"""Options of reading photo files: orientation, transparent pixels, white level of 16 bits, large JPEGs."""

from __future__ import annotations

from typing import NamedTuple

EXIF = ("apply", "keep")
TRANSPARENT = ("white", "black", "grey", "drop")
JPEG = ("exact", "reduced")
_DECODERS = ("libjpeg_turbo", "libtiff", "webp", "avif")  # other versions may give other pixels
VERSION = "photo-2"  # part of every stored photo feature's key: raise it when decoded pixels change


class Reading(NamedTuple):
    """The options, part of every photo feature's key and of run.json.

    Attributes:
        exif: "apply" the EXIF orientation, or "keep" photos as stored, as in OpenAI's preprocessing (Pillow always
            rotates TIFF files, libheif HEIC files).
        transparent: Background of transparent pixels: "white", "black", "grey", or "drop" for the colours stored under
            them, as in OpenAI's preprocessing.
        white_level: White in photos of 16 bits per channel that do not declare it, 255 to 65535; 0 if unknown.
        jpeg: "exact", or "reduced": a JPEG is decoded at a half, a quarter or an eighth of its size, as long as its
            sides keep twice the network's.
    """

    exif: str = "apply"
    transparent: str = "white"
    white_level: int = 0
    jpeg: str = JPEG[0]

    @property
    def key(self) -> str:
        """The options and the versions of the code, of Pillow and of its decoders, for a fingerprint."""
        import PIL  # not needed for --help
        from PIL import features

        pillow = " ".join([PIL.__version__, *(str(features.version(name)) for name in _DECODERS)])
        reduced = "" if self.jpeg == JPEG[0] else f" {self.jpeg}"
        return f"{VERSION} {pillow} {self.exif} {self.transparent} {self.white_level}{reduced}"


AS_SEEN = Reading()
"""The default: as a person sees a photo."""
OPENAI = Reading("keep", "drop", 65535)
"""OpenAI's preprocessing, and this program's before these options."""
