"""How a photo's file becomes a picture, where there is a choice: rotation, transparent pixels, the range of 16 bits."""

from __future__ import annotations

from typing import NamedTuple

EXIF = ("apply", "keep")
TRANSPARENT = ("white", "black", "grey", "drop")
_DECODERS = ("libjpeg_turbo", "libtiff", "webp", "avif")  # other versions may give other pixels
VERSION = "photo-2"  # part of every stored photo feature's key: raise it when a file comes out as another picture


class Reading(NamedTuple):
    """The choices, part of every photo feature's key and of run.json.

    Attributes:
        exif: "apply" turns and mirrors a photo as its EXIF orientation says; "keep" leaves it as it is stored, as
            OpenAI's preprocessing does (Pillow itself turns TIFF files, and libheif HEIC files, in any case).
        transparent: What shows through transparent pixels: "white", "black", "grey", or "drop" for the colours that
            the file stores under them, as OpenAI's preprocessing does.
        white_level: The value that is white in photos of 16 bits per channel whose file does not tell it, from 255 to
            65535; 0 where it was not settled.
    """

    exif: str = "apply"
    transparent: str = "white"
    white_level: int = 0

    @property
    def key(self) -> str:
        """The choices and the versions of the code, of Pillow and of its decoders, as part of a fingerprint."""
        import PIL  # --help does without it
        from PIL import features

        pillow = " ".join([PIL.__version__, *(str(features.version(name)) for name in _DECODERS)])
        return f"{VERSION} {pillow} {self.exif} {self.transparent} {self.white_level}"


AS_SEEN = Reading()
"""As a person sees a photo: the default."""
OPENAI = Reading("keep", "drop", 65535)
"""As OpenAI's preprocessing reads a file, and as this program did before there was a choice."""
