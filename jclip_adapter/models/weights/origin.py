"""How a weight file was written, as far as that tells which settings its model needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jclip_adapter.core.errors import WeightsError

from .tensors import Floats

FORMAT = "jclip-adapter"  # the format's name in the metadata of what this program writes
_INDEX = ".safetensors.index.json"
_DAMAGED = "Convert the weights again."


def is_index(path: Path) -> bool:
    """Whether a file is the index of safetensors in several parts, told by its name."""
    return path.name.endswith(_INDEX)


class Origin(NamedTuple):
    """How a weight file was written.

    Attributes:
        form: "safetensors", "torch" (a state dict by torch.save, or a plain pickle), "torchscript" (OpenAI's files),
            "jittor" (JCLIP's), or "own" (this program's safetensors).
        layout: Whose names it has: "open_clip" (also OpenAI's), "hugging_face", or empty where it was not asked.
        notes: What was left out of it, a sentence each.
        model: `ClipConfig.settings` that a converted file carries; None for none.
        source_sha256: Of the file that this one was converted from; empty for none.
    """

    form: str
    layout: str = ""
    notes: tuple[str, ...] = ()
    model: Mapping[str, Any] | None = None
    source_sha256: str = ""

    def as_facts(self) -> dict[str, str]:
        """The attributes, for safetensors' metadata: of a copy that stands for the file itself."""
        told = json.dumps([self.form, self.layout, list(self.notes)], ensure_ascii=False)
        return {"format": FORMAT, "origin": told, "source_sha256": self.source_sha256}

    @classmethod
    def from_facts(cls, facts: Mapping[str, str]) -> Origin:
        """What this program's safetensors metadata say.

        Raises:
            WeightsError: they are not as this program writes them.
        """
        try:
            model = json.loads(facts["model"]) if "model" in facts else None
            form, layout, notes = json.loads(facts.get("origin", '["own", "", []]'))
        except (ValueError, TypeError, RecursionError) as error:
            raise WeightsError("its metadata are damaged.", _DAMAGED) from error
        named = isinstance(form, str) and isinstance(layout, str) and isinstance(notes, list)
        if not named or not (model is None or isinstance(model, dict)):
            raise WeightsError("its metadata are damaged.", _DAMAGED)
        return cls(form, layout, tuple(map(str, notes)), model, str(facts.get("source_sha256", "")))


class Loaded(NamedTuple):
    """Weights and where they came from.

    Attributes:
        path: The file.
        sha256: Of the file; of weights in several parts, of their names and SHA-256.
        state: OpenAI's name → float32 array, as `read_weight_file` gives it.
        origin: How the file was written.
    """

    path: Path
    sha256: str
    state: dict[str, Floats]
    origin: Origin
