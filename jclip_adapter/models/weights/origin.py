"""How a weight file was written, as evidence of its model's settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jclip_adapter.core.errors import WeightsError

from .tensors import Floats

FORMAT = "jclip-adapter"  # in the metadata of files that this program writes
_INDEX = ".safetensors.index.json"


def is_index(path: Path) -> bool:
    """Whether a file is the index of safetensors in several parts, by its name."""
    return path.name.endswith(_INDEX)


class Origin(NamedTuple):
    """How a weight file was written.

    Attributes:
        form: "safetensors", "torch" (a state dict by torch.save, or a plain pickle), "torchscript" (OpenAI's files),
            "jittor" (JCLIP's), or "own" (this program's safetensors).
        layout: Its names: "open_clip" (also OpenAI's), "hugging_face", or empty if unknown.
        notes: A sentence per ignored part.
        model: `ClipConfig.settings` in a converted file; None for none.
        source_sha256: Digest of the file that this one was converted from; empty for none.
    """

    form: str
    layout: str = ""
    notes: tuple[str, ...] = ()
    model: Mapping[str, Any] | None = None
    source_sha256: str = ""

    def as_facts(self) -> dict[str, str]:
        """The attributes as safetensors metadata, for a cached copy."""
        origin = json.dumps([self.form, self.layout, list(self.notes)], ensure_ascii=False)
        return {"format": FORMAT, "origin": origin, "source_sha256": self.source_sha256}

    @classmethod
    def from_facts(cls, facts: Mapping[str, str]) -> Origin:
        """Parse safetensors metadata of this program.

        Raises:
            WeightsError: they are malformed.
        """
        try:
            model = json.loads(facts["model"]) if "model" in facts else None
            form, layout, notes = json.loads(facts.get("origin", '["own", "", []]'))
            model = model if model is None else dict(model)
            return cls(str(form), str(layout), tuple(map(str, notes)), model, facts.get("source_sha256", ""))
        except (ValueError, TypeError, RecursionError) as error:
            raise WeightsError("its metadata are damaged.", "Convert the weights again.") from error


class Loaded(NamedTuple):
    """Weights and their origin.

    Attributes:
        path: The file.
        sha256: Digest of the file; for weights in several parts, of their names and digests.
        state: OpenAI's name → float32 array, from `read_weight_file`.
        origin: How the file was written.
    """

    path: Path
    sha256: str
    state: dict[str, Floats]
    origin: Origin
